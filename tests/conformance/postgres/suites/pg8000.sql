-- Its tests sign in as postgres, to the database of that name.
drop schema if exists public cascade;
create schema public;
create extension if not exists hstore;
drop role if exists boltzmann;
