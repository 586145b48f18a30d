-- What tests that failed leave behind.
drop database if exists testdb with (force);
drop database if exists asyncpg_intro_test with (force);
drop role if exists ssl_user;
