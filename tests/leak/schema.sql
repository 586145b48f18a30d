-- The tables of tier `leak`. Every column behind `city` is masked in tests/e2e/policies/leak; `fill`
-- makes the values of one of two worlds, which differ in masked columns only. What a mask is meant to
-- show (the last digits of a card, the year of a birth) is the same in both.

create type leak_level as enum ('bronze', 'silver', 'gold', 'onyx');
create domain leak_phone as text check (value ~ '^[+]');
create type leak_address as (street text, zip int);

create table people (
    id      int primary key,
    name    text not null,
    city    text not null,
    ssn     text not null,
    email   text not null,
    card    text not null,
    nick    varchar(40),
    pad     char(20),
    label   name,
    phone   leak_phone,
    salary  numeric(14, 2),
    pin     int,
    small   smallint,
    balance bigint,
    ratio   real,
    score   double precision,
    paid    money,
    birth   date,
    seen    timestamptz,
    met     timestamp,
    clock   time,
    wait    interval,
    key     uuid,
    profile jsonb,
    notes   json,
    doc     xml,
    blob    bytea,
    tags    text[],
    nums    int[],
    days    date[],
    level   leak_level,
    home    leak_address,
    span    int4range,
    spans   int4multirange,
    ip      inet,
    mac     macaddr,
    bits    bit(16),
    flag    boolean,
    spot    point,
    words   tsvector,
    ends    text generated always as (right(ssn, 5)) stored
);
create unique index people_email on people (email);

create table places (id int primary key, city text not null, body text);
insert into places select i, 'city' || i, 'place ' || i from generate_series(1, 5) i;

create table sink (id int, body text, number numeric);
create table noisy (id int primary key, person int);
create table guarded (id int primary key, phone leak_phone, ssn text unique check (ssn !~ 'forbidden'));

create table visits (id int, at date, visitor text) partition by range (at);
create table visits_old partition of visits for values from ('2020-01-01') to ('2026-01-01');
create table visits_new partition of visits for values from ('2026-01-01') to ('2030-01-01');

create table base_accounts (id int primary key, owner text, secret text);
create table gold_accounts (perk text) inherits (base_accounts);

create view people_codes as select id, name, ssn as code, upper(email) as mail from people;
create view people_nested as select c.id, c.name, c.code, p.card from people_codes c join people p using (id);
create view people_json as select id, to_jsonb(p) as whole from people p;
create view people_union as
    select id, name as word from people union all select id, ssn from people;
create materialized view people_kept as select id, name, ssn as kept from people;

create function person_ssn(wanted int) returns text language sql stable
    as $$ select ssn from people where id = wanted $$;
create function person_line(wanted int) returns text language sql stable
    as $$ select p.name || ':' || p.email from people p where p.id = $1 $$;
create function shout(word text) returns text language sql immutable
    as $$ select upper(word) || '!' $$;
create function all_people() returns setof people language sql stable
    as $$ select * from people order by id $$;
create function some_people(most int) returns table (who int, what text) language sql stable
    as $$ select id, ssn from people where id <= most order by id $$;
create function opaque_ssn(wanted int) returns text language plpgsql stable
    as $$ declare found_one text; begin select ssn into found_one from people where id = wanted; return found_one; end $$;
create function noisy_row() returns trigger language plpgsql as $$
declare found_one text;
begin
    select ssn into found_one from people where id = new.person;
    raise notice 'the person has %', found_one;
    perform pg_notify('leak', found_one);
    if new.id = 666 then raise exception 'no: %', found_one using detail = found_one, hint = found_one; end if;
    return new;
end $$;
create trigger noisy before insert on noisy for each row execute function noisy_row();

create function leak_word(world text, what text, id int) returns text language sql immutable
    as $$ select translate(md5(world || ':' || what || ':' || id), 'abcdef', 'xkqzvw') $$;
create function leak_number(world text, what text, id int) returns int language sql immutable
    as $$ select ('x' || substr(md5(world || ':' || what || ':' || id), 1, 7))::bit(28)::int $$;

create procedure fill(world text) language plpgsql as $$
declare longer int := case world when 'a' then 0 else 2 end;
begin
    truncate people, visits, base_accounts, gold_accounts;
    insert into people (id, name, city, ssn, email, card, nick, pad, label, phone, salary, pin, small,
        balance, ratio, score, paid, birth, seen, met, clock, wait, key, profile, notes, doc, blob, tags,
        nums, days, level, home, span, spans, ip, mac, bits, flag, spot, words)
    select i, 'name' || i, 'city' || (1 + i % 5),
        left(leak_word(world, 'ssn', i), 12 + longer),
        left(leak_word(world, 'email', i), 10 + longer) || '@' || left(leak_word(world, 'host', i), 6) || '.example',
        left(leak_word(world, 'card', i), 12) || lpad(i::text, 4, '0'),
        left(leak_word(world, 'nick', i), 14 + longer), left(leak_word(world, 'pad', i), 16 + longer),
        left(leak_word(world, 'label', i), 20 + longer), '+' || left(leak_word(world, 'phone', i), 12 + longer),
        i * 10000 + leak_number(world, 'salary', i) % 1000000 / 100.0,
        1000 + leak_number(world, 'pin', i) % 9000, leak_number(world, 'small', i) % 30000,
        leak_number(world, 'balance', i)::bigint * 4999, (leak_number(world, 'ratio', i) % 100000) / 64.0,
        i * 100 + (leak_number(world, 'score', i) % 9900) / 100.0,
        (leak_number(world, 'paid', i) % 100000)::money,
        make_date(1950 + i, 1, 1) + leak_number(world, 'birth', i) % 360,
        timestamptz '2026-03-01 00:00:00+00' + i * interval '31 days' * 0 + leak_number(world, 'seen', i) % 2500000 * interval '1 second',
        timestamp '2026-05-01 00:00:00' + leak_number(world, 'met', i) % 2500000 * interval '1 second',
        time '00:00' + leak_number(world, 'clock', i) % 86000 * interval '1 second',
        leak_number(world, 'wait', i) % 100000 * interval '1 second',
        md5(world || i)::uuid,
        jsonb_build_object('code', leak_word(world, 'profile', i), 'list', jsonb_build_array(leak_word(world, 'list', i))),
        json_build_object('code', leak_word(world, 'notes', i)),
        xmlelement(name code, leak_word(world, 'doc', i)),
        decode(md5(world || 'blob' || i), 'hex'),
        array[leak_word(world, 'tag', i), leak_word(world, 'tags', i)],
        array[i * 100 + leak_number(world, 'num', i) % 100, i * 100 + leak_number(world, 'nums', i) % 100],
        array[make_date(1980 + i, 1, 1) + leak_number(world, 'days', i) % 360],
        (enum_range(null::leak_level))[1 + (i + ascii(world)) % 4],
        row(leak_word(world, 'street', i), leak_number(world, 'zip', i))::leak_address,
        int4range(leak_number(world, 'span', i), leak_number(world, 'span', i) + 7),
        int4multirange(int4range(leak_number(world, 'spans', i), leak_number(world, 'spans', i) + 9)),
        ('10.' || leak_number(world, 'ip', i) % 250 || '.7.9')::inet,
        (left(md5(world || 'mac' || i), 12))::macaddr,
        (leak_number(world, 'bits', i) % 65536)::bit(16),
        (ascii(world) + i) % 2 = 0,
        point(leak_number(world, 'x', i), leak_number(world, 'y', i)),
        to_tsvector('simple', leak_word(world, 'words', i))
    from generate_series(1, 12) i;
    insert into visits select i, date '2025-06-01' + i * 40, leak_word(world, 'visitor', i) from generate_series(1, 12) i;
    insert into base_accounts select i, 'owner' || i, leak_word(world, 'account', i) from generate_series(1, 5) i;
    insert into gold_accounts select 10 + i, 'owner' || i, leak_word(world, 'gold', i), 'perk' from generate_series(1, 5) i;
    refresh materialized view people_kept;
    analyze people;
end $$;

grant all on all tables in schema public to weir_app;
grant all on all sequences in schema public to weir_app;
call fill('a');

-- Whom agents come as, so that they can also change what is there.
do $$
declare name text;
begin
    for name in select c.oid::regclass from pg_class c where c.relnamespace = 'public'::regnamespace
        and c.relkind in ('r', 'p', 'v', 'm') and c.relname ~ '^(people|places|sink|noisy|guarded|visits|base_|gold_)'
    loop
        execute format('alter table %s owner to weir_app', name);
    end loop;
end $$;
