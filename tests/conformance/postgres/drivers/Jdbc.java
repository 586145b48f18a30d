// The PostgreSQL JDBC driver: java -cp …/postgresql.jar Jdbc.java

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PSQLException;

public class Jdbc {
    static final String[] QUERIES = {
        "select 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 12345.678::numeric",
        "select 'a'::text, 'b'::varchar, 'c'::char(3), null::text, 'ünï'",
        "select '2020-02-29'::date, '2020-02-29 12:34:56.789'::timestamp, '1 day 02:03'::interval",
        "select '\\xdeadbeef'::bytea, '{\"a\": [1, 2]}'::jsonb, '{1,2,NULL}'::int[]",
        "select * from person order by id",
        "select * from busy order by id",
        "select n from generate_series(1, 500) n",
        "select repeat('x', 100000)",
        "select * from mixed order by id",
        "select 1 where false",
    };
    static final String[] ERRORS = {
        "select 1/0", "selec 1", "select * from nosuch", "select nosuch from person",
        "insert into person (id, name) values (1, 'x')", "insert into task (person_id) values (999)",
        "insert into mixed (d) values (-1)", "select 'abc'::int",
    };

    static void said(String name, Object value) {
        System.out.println(name + ": " + value);
    }

    static List<String> rows(ResultSet set) throws SQLException {
        List<String> rows = new ArrayList<>();
        ResultSetMetaData about = set.getMetaData();
        while (set.next()) {
            StringBuilder row = new StringBuilder();
            for (int at = 1; at <= about.getColumnCount(); at++) {
                boolean bytes = about.getColumnType(at) == Types.BINARY && set.getBytes(at) != null;
                row.append(at > 1 ? "|" : "").append(bytes ? HexFormat.of().formatHex(set.getBytes(at)) : set.getString(at));
            }
            rows.add(row.toString());
        }
        return rows;
    }

    static List<String> columns(ResultSet set) throws SQLException {
        List<String> names = new ArrayList<>();
        ResultSetMetaData about = set.getMetaData();
        for (int at = 1; at <= about.getColumnCount(); at++) {
            names.add(about.getColumnName(at) + " " + about.getColumnTypeName(at) + " " + about.getPrecision(at)
                + " " + about.isNullable(at) + " " + about.getTableName(at));
        }
        return names;
    }

    static void failing(String name, SQLException error) {
        var message = error instanceof PSQLException known ? known.getServerErrorMessage() : null;
        said(name, error.getSQLState() + " " + (message == null ? error.getMessage()
            : message.getMessage() + " " + message.getDetail() + " " + message.getHint() + " " + message.getPosition()
                + " " + message.getConstraint()));
    }

    static Connection connect(String... more) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        for (int at = 0; at < more.length; at += 2) {
            properties.setProperty(more[at], more[at + 1]);
        }
        return DriverManager.getConnection(
            "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), properties);
    }

    public static void main(String[] arguments) throws Exception {
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection connection = connect("preferQueryMode", mode, "prepareThreshold", "2")) {
                said("mode", mode);
                everything(connection, mode);
            }
        }
        try (Connection connection = connect("binaryTransfer", "true", "prepareThreshold", "-1")) {
            for (String text : QUERIES) {
                try (PreparedStatement statement = connection.prepareStatement(text)) {
                    said("binary", rows(statement.executeQuery()));
                }
            }
        }
        try (Connection connection = connect("readOnly", "true", "autosave", "always")) {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.execute("insert into audit values ('no')");
            } catch (SQLException error) {
                failing("read only", error);
            }
            said("autosave", rows(connection.createStatement().executeQuery("select 1")));
            connection.rollback();
        }
    }

    static void everything(Connection connection, String mode) throws Exception {
        for (String text : QUERIES) {
            try (Statement statement = connection.createStatement(); ResultSet set = statement.executeQuery(text)) {
                said("columns", columns(set));
                said("rows", rows(set));
            }
        }
        for (String text : ERRORS) {
            try (Statement statement = connection.createStatement()) {
                statement.execute(text);
            } catch (SQLException error) {
                failing(text, error);
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("select ?::int + 1, ?::text, ?::numeric, ?::date, ?::int[]")) {
            for (int n = 0; n < 5; n++) {
                statement.setInt(1, n);
                statement.setString(2, n % 2 == 0 ? null : "text " + n);
                statement.setBigDecimal(3, new java.math.BigDecimal("1.50"));
                statement.setDate(4, java.sql.Date.valueOf("2020-02-29"));
                statement.setArray(5, connection.createArrayOf("int4", new Integer[] {1, null, n}));
                said("parameters", rows(statement.executeQuery()));
            }
            said("parameter types", statement.getParameterMetaData().getParameterTypeName(1));
        }
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("insert into audit values (?)")) {
            for (int n = 0; n < 10; n++) {
                statement.setString(1, "batch " + n);
                statement.addBatch();
            }
            said("batch", statement.executeBatch().length);
        }
        Savepoint savepoint = connection.setSavepoint("s");
        try (Statement statement = connection.createStatement()) {
            statement.execute("select 1/0");
        } catch (SQLException error) {
            failing("in transaction", error);
        }
        connection.rollback(savepoint);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(7);
            said("fetch size", rows(statement.executeQuery("select n from generate_series(1, 30) n")).size());
            said("count", rows(statement.executeQuery("select count(*) from audit")));
            statement.executeUpdate("insert into task (person_id, title) values (1, 'keys')", Statement.RETURN_GENERATED_KEYS);
            said("generated", rows(statement.getGeneratedKeys()).size());
            said("updated", statement.executeUpdate("update person set name = name where id < 3"));
        }
        connection.rollback();
        connection.setAutoCommit(true);
        try (Statement statement = connection.createStatement()) {
            boolean more = statement.execute("select 1 as a; select 2 as b; select 3 as c");
            while (more) {
                said("several", rows(statement.getResultSet()));
                more = statement.getMoreResults();
            }
            statement.execute("select shout('x')");
            said("warning", statement.getWarnings() == null ? "none" : statement.getWarnings().getMessage());
            statement.setQueryTimeout(1);
            try {
                statement.execute("select pg_sleep(20)");
            } catch (SQLException error) {
                failing("timeout", error);
            }
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("create temp table mine (a int)");
            statement.execute("insert into mine values (1), (2)");
            said("temporary", rows(statement.executeQuery("select * from mine order by a")));
            statement.execute("drop table mine");
        }
        PGConnection own = connection.unwrap(PGConnection.class);
        if (!mode.equals("simple")) {
            StringWriter out = new StringWriter();
            own.getCopyAPI().copyOut("copy person (id, name) to stdout", out);
            said("copy out", out.toString().replace('\n', '/'));
            said("copy in", own.getCopyAPI().copyIn("copy audit from stdin", new StringReader("one\ntwo\n")));
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("listen news");
            statement.execute("notify news, 'fresh'");
            PGNotification[] heard = own.getNotifications(5000);
            said("heard", heard == null ? "nothing" : heard[0].getName() + " " + heard[0].getParameter());
        }
        // In the simple protocol the driver passes the result's place as an argument.
        if (!mode.equals("simple")) {
            try (var call = connection.prepareCall("{ ? = call plus_one(?) }")) {
                call.registerOutParameter(1, Types.INTEGER);
                call.setInt(2, 41);
                call.execute();
                said("call", call.getInt(1));
            }
        }
        said("tables", rows(connection.getMetaData().getTables(null, "public", "p%", new String[] {"TABLE"})));
        said("of person", rows(connection.getMetaData().getColumns(null, "public", "person", "%")).size());
        said("keys", rows(connection.getMetaData().getPrimaryKeys(null, "public", "person")));
        said("isolation", connection.getTransactionIsolation());
    }
}
