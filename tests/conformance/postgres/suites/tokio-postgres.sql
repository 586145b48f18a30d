-- Its tests sign in to the database postgres, as postgres and as these.
drop schema if exists public cascade;
create schema public;
create extension if not exists citext;
create extension if not exists hstore;
create extension if not exists ltree;
do $$ declare name text; begin
  foreach name in array '{pass_user,md5_user,scram_user,ssl_user}'::text[] loop
    execute format('drop role if exists %I', name);
    execute format('create role %I superuser login', name);
  end loop;
end $$;
