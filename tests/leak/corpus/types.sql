-- Each type, as it is and in the ways that types have. X stands for each of the columns in turn.
-- for X in salary pin small balance ratio score paid birth seen met clock wait key profile notes doc blob tags nums days level home span spans ip mac bits flag spot words pad label ends
select id, X from people order by id;
select id, X::text from people order by id;
select id, name, coalesce(X, X) as city from people order by id;
-- for X in salary pin small balance ratio score
select id, X + 0 from people order by id;
select id, X * 2 as doubled, city from people order by id;
select sum(X), avg(X) from people;
select id, abs(X), -X from people order by id;
select id, round(X::numeric, 1) from people order by id;
select id, X::numeric % 2 > 0.9 from people order by id;
-- for X in birth seen met
select id, extract(epoch from X) from people order by id;
select id, to_char(X, 'YYYY-MM-DD HH24:MI:SS') from people order by id;
select id, date_part('day', X) from people order by id;
select id, X + interval '1 day' from people order by id;
select max(X), min(X) from people;
-- for X in profile notes
select id, X ->> 'code' from people order by id;
select id, X -> 'code' from people order by id;
select id, X #>> '{code}' from people order by id;
select id, to_jsonb(X) from people order by id;
-- once
select id, profile -> 'list' ->> 0 from people order by id;
select id, jsonb_pretty(profile) from people order by id;
select id, jsonb_path_query_first(profile, '$.code') from people order by id;
select id, profile || '{"more": 1}' from people order by id;
select id, tags[1] from people order by id;
select id, tags[1:1] from people order by id;
select id, array_to_string(tags, '/') from people order by id;
select id, array_append(tags, 'x') from people order by id;
select id, nums[1] + 1 from people order by id;
select id, (home).street from people order by id;
select id, (home).zip from people order by id;
select id, lower(span), upper(span) from people order by id;
select id, span * int4range(0, 268435456) from people order by id;
select id, host(ip) from people order by id;
select id, trunc(mac) from people order by id;
select id, bits & b'1111111111111111' from people order by id;
select id, not flag from people order by id;
select id, spot[0] from people order by id;
select id, level > 'bronze' from people order by id;
select id, strip(words) from people order by id;
select id, encode(blob, 'base64') from people order by id;
select id, get_byte(blob, 0), get_byte(blob, 1) from people order by id;
select id, blob || '\x00'::bytea from people order by id;
select id, uuid_send(key) from people order by id;
select id, xpath('/code/text()', doc) from people order by id;
select id, xmlserialize(content doc as text) from people order by id;
select id, ends || '' from people order by id;
select id, reverse(ends) from people order by id;
select id, justify_hours(wait) from people order by id;
