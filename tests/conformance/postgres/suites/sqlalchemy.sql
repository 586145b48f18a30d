-- As its README.unittests.rst wants it.
create extension citext;
create extension hstore;
create schema test_schema;
create schema test_schema_2;
