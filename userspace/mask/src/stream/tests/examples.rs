//! Examples of every detector, put together here so that no source text looks like a secret.

use super::Detector;

/// What is shown before, the secret, what is shown after.
type True = (String, String, String);
pub(super) type Example = (Detector, Vec<True>, Vec<String>);

fn letters(seed: usize, alphabet: &str, count: usize) -> String {
    let alphabet = alphabet.as_bytes();
    (0..count)
        .map(|at| char::from(alphabet[(at * 7 + seed * 13 + at * at) % alphabet.len()]))
        .collect()
}

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const B64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn five(prefix: &str, make: impl Fn(usize) -> String) -> Vec<True> {
    (1..=5)
        .map(|seed| (prefix.to_owned(), make(seed), String::new()))
        .collect()
}

fn bare(list: &[&str]) -> Vec<True> {
    let one = |text: &&str| (String::new(), text.replace('_', ""), String::new());
    list.iter().map(one).collect()
}

fn falses(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| text.replace('~', "")).collect()
}

fn numbers() -> Vec<Example> {
    vec![
        (
            Detector::PaymentCard,
            bare(&[
                "4111_1111_1111_1111",
                "5555 5555_5555 4444",
                "3782-822463-10005",
                "6011_1111_1111_1117",
                "3530_1113_3330_0000",
                "2223_0031_2200_3222",
                "3056_9309_0259_04",
            ]),
            falses(&[
                "4111111111111112",
                "1234567812345670",
                "411111111111",
                "1700000000000000000",
                "41111111111111110",
                "x4111111111111111",
            ]),
        ),
        (
            Detector::Iban,
            bare(&[
                "DE89_3704_0044_0532_0130_00",
                "GB29 NWBK 6016 1331 9268 19",
                "FR14_2004_1010_0505_0001_3M02_606",
                "NL91_ABNA_0417_1643_00",
                "NO93_8601_1117_947",
                "CH93_0076_2011_6238_5295_7",
            ]),
            falses(&[
                "DE89370400440532013001",
                "DE8937040044053201300",
                "XX89370400440532013000",
                "AB12CDEF34567890",
                "de89370400440532013000",
            ]),
        ),
        (
            Detector::UsSsn,
            bare(&[
                "078-05-1120",
                "219-09-9999",
                "123-45-6789",
                "001-01-0001",
                "899-99-9999",
            ]),
            falses(&[
                "000-12-3456",
                "666-12-3456",
                "900-12-3456",
                "123-00-4567",
                "123-45-0000",
                "2026-11-2400",
                "123-45-67890",
            ]),
        ),
        (
            Detector::Phone,
            bare(&[
                "+4915112345678",
                "+1 (415) 555-2671",
                "+44 20 7946 0958",
                "+33.1.23.45.67.89",
                "+12025550123",
            ]),
            falses(&["+1234", "415-555-2671", "+0123456789", "a+b", "+1 -2 +3"]),
        ),
        (
            Detector::Email,
            bare(&[
                "jane@example.com",
                "a.b+c@sub.example.org",
                "X%y@example.co.uk",
                "u1-2@ex-ample.de",
                "0@example.info",
            ]),
            falses(&[
                "jane@",
                "@example.com",
                "jane@example",
                "a b@ c.d",
                "user@localhost",
                "x@1.2",
            ]),
        ),
    ]
}

fn clouds() -> Vec<Example> {
    let aws = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let key = |seed| letters(seed, B64, 40);
    vec![
        (
            Detector::AwsAccessKeyId,
            five("", |seed| {
                format!("{}{}", ["AKIA", "ASIA"][seed % 2], letters(seed, aws, 16))
            }),
            falses(&[
                "AKIA",
                "AKIA~short",
                "AKIA~abcdefghijklmnop",
                "AKIA~0000000000000000",
                "XAKIA~ABCDEFGHIJKLMNOP",
            ]),
        ),
        (
            Detector::AwsSecretKey,
            [
                "aws_secret_access_key = ",
                "AWS_SECRET_ACCESS_KEY=",
                "\"SecretAccessKey\": \"",
                "secret_key: '",
                "secretAccessKey=>",
            ]
            .iter()
            .map(|name| ((*name).to_owned(), key(name.len()), String::new()))
            .collect(),
            vec![
                key(1),
                "aws_secret_access_key = ".to_owned(),
                "aws_secret_access_key = short".to_owned(),
                "SecretAccessKey: $VALUE".to_owned(),
                format!("aws_access = {}", key(2)),
            ],
        ),
        (
            Detector::AzureStorage,
            (1..=3)
                .map(|seed| {
                    (
                        "AccountKey=".to_owned(),
                        format!("{}==", letters(seed, B64, 86)),
                        String::new(),
                    )
                })
                .chain((1..=3).map(|seed| {
                    (
                        "?sv=1&sig=".to_owned(),
                        format!("{}%3D", letters(seed, B64, 43)),
                        "&se=2".to_owned(),
                    )
                }))
                .collect(),
            falses(&[
                "AccountKey=",
                "AccountKey=abc==",
                "sig=abc",
                "sig=%3D",
                "signature=x",
            ]),
        ),
        (
            Detector::AzureClientSecret,
            five("", |seed| {
                format!("a{seed}B8Q~{}", letters(seed, ALNUM, 34))
            }),
            falses(&["8Q~", "ab8Q~", "abc8Q~-short", "abcQ~", "abc8Q"]),
        ),
        (
            Detector::GoogleApiKey,
            five("", |seed| format!("AIza{}", letters(seed, ALNUM, 35))),
            falses(&[
                "AIza",
                "AIza~short",
                "AIZA~x",
                "aiza",
                "AIza~SyABCDEFGHIJ!KLMNOPQRSTUVWXYZ0123456",
            ]),
        ),
    ]
}

fn tokens() -> Vec<Example> {
    let long = |prefix: &str, count| {
        let prefix = prefix.to_owned();
        five("", move |seed| {
            format!("{prefix}{}", letters(seed, ALNUM, count))
        })
    };
    let mut github: Vec<True> = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]
        .iter()
        .map(|prefix| {
            (
                String::new(),
                format!("{prefix}{}", letters(3, ALNUM, 36)),
                String::new(),
            )
        })
        .collect();
    let fine = format!(
        "github_pat_{}_{}",
        letters(1, ALNUM, 22),
        letters(2, ALNUM, 59)
    );
    github.push((String::new(), fine, String::new()));
    vec![
        (
            Detector::Github,
            github,
            falses(&[
                "ghp_",
                "ghp_~short",
                "gh_x",
                "ghx_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "github_pat_~x",
            ]),
        ),
        (
            Detector::Gitlab,
            long("glpat-", 20),
            falses(&[
                "glpat-",
                "glpat-~short",
                "glp-x",
                "gl",
                "glpat_aaaaaaaaaaaaaaaaaaaaaa",
            ]),
        ),
        (
            Detector::Slack,
            ["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xapp-1-"]
                .iter()
                .map(|prefix| {
                    (
                        String::new(),
                        format!("{prefix}{}", letters(2, ALNUM, 24)),
                        String::new(),
                    )
                })
                .collect(),
            falses(&["xoxb-", "xoxb-~1", "xoxz-aaaaaaaaaaaa", "xox", "xapp-x"]),
        ),
        (
            Detector::Stripe,
            long("sk_live_", 24),
            falses(&[
                "sk_live_",
                "sk_test_aaaaaaaaaaaaaaaaaaaa",
                "sk_live_~x",
                "pk_live_aaaaaaaaaaaaaaaaaaaa",
                "sk_",
            ]),
        ),
        (
            Detector::Npm,
            long("npm_", 36),
            falses(&[
                "npm_",
                "npm_config_registry",
                "npm_~x",
                "npm install",
                "npm_lifecycle_event",
            ]),
        ),
        (
            Detector::Pypi,
            long("pypi-AgEI", 60),
            falses(&[
                "pypi-",
                "pypi-AgEI",
                "pypi-server",
                "pypi-AgE",
                "pypi-AgEI~short",
            ]),
        ),
        (
            Detector::OpenAi,
            five("", |seed| {
                format!(
                    "sk-proj-{}T3BlbkFJ{}",
                    letters(seed, ALNUM, 20),
                    letters(seed + 1, ALNUM, 20)
                )
            }),
            falses(&["sk-", "sk-proj-", "sk-proj-x", "sk-learn", "task-proj-1"]),
        ),
        (
            Detector::Anthropic,
            long("sk-ant-api03-", 90),
            falses(&[
                "sk-ant-",
                "sk-ant-api03-",
                "sk-ant-api03-~x",
                "ant-api03",
                "sk-ant",
            ]),
        ),
    ]
}

fn forms() -> Vec<Example> {
    let head = "eyJ~hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9".replace('~', "");
    let pem = |kind: &str, body: &str, end: bool| {
        let end = if end {
            format!("-----END {kind}PRIVATE KEY-----")
        } else {
            String::new()
        };
        (
            String::new(),
            format!("-----BEGIN {kind}PRIVATE KEY-----{body}{end}"),
            String::new(),
        )
    };
    let lines = format!("\n{}\n{}\n", letters(1, B64, 64), letters(2, B64, 40));
    let value = |before: &str, value: &str, after: &str| {
        (before.to_owned(), value.to_owned(), after.to_owned())
    };
    vec![
        (
            Detector::Jwt,
            five("", |seed| {
                format!(
                    "{head}.{}.{}",
                    letters(seed, ALNUM, 20),
                    letters(seed, ALNUM, 43)
                )
            }),
            vec![
                head.clone(),
                format!("{head}.x"),
                "eyJ".to_owned(),
                format!("eyJ{}.abcdef.ghijkl", letters(1, ALNUM, 20)),
                "a.b.c".to_owned(),
            ],
        ),
        (
            Detector::PrivateKey,
            vec![
                pem("", &lines, true),
                pem(
                    "RSA ",
                    &format!(
                        "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{}\n",
                        letters(3, B64, 64)
                    ),
                    true,
                ),
                pem("OPENSSH ", &lines.replace('\n', "\r\n"), true),
                pem("EC ", &lines.replace('\n', "\\n"), true),
                pem("", &lines.replace('\n', "\n    "), true),
                pem("RSA ", &format!("\n{}", letters(5, B64, 64)), false),
            ],
            falses(&[
                "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
                "-----BEGIN PUBLIC KEY-----",
                "PRIVATE KEY",
                "-----BEGIN ",
                "-----END PRIVATE KEY-----",
            ]),
        ),
        (
            Detector::Password,
            vec![
                value("password=", "hunter2", ""),
                value("PGPASSWORD=", "s3cr3t", " psql"),
                value("db.password = \"", "a b", "\""),
                value("password: ", "tr0ub4dor", "\n"),
                value("{\"password\":\"", "x-y", "\"}"),
                value("passwd='", "it is", ""),
                value("MYSQL_PASSWORD=", "p@ss!w0rd", "\r\n"),
            ],
            falses(&[
                "password=$PASSWORD",
                "password:String",
                "passwords",
                "password = ",
                "password: <redacted>",
                "password=[masked:x]",
                "password=****",
            ]),
        ),
        (
            Detector::UrlPassword,
            vec![
                value("postgres://app:", "pw", "@db/x"),
                value("https://user:", "p%40ss", "@example.com/"),
                value("redis://:", "secret", "@cache:6379"),
                value("amqp+ssl://a.b:", "c-d", "@mq"),
                value("mongodb://root:", "x!y", "@m1,m2"),
            ],
            falses(&[
                "http://host:8080/path",
                "http://user@host",
                "https://u:$PW@host",
                "a://b:c",
                "ssh://git@host:22/x",
            ]),
        ),
    ]
}

pub(super) fn all() -> Vec<Example> {
    let groups = [numbers(), clouds(), tokens(), forms()];
    groups.into_iter().flatten().collect()
}

/// The true examples with what stands around them.
pub(super) fn secrets() -> Vec<(Detector, String)> {
    all()
        .into_iter()
        .flat_map(|(detector, trues, _)| {
            trues
                .into_iter()
                .map(move |(before, secret, after)| (detector, format!("{before}{secret}{after}")))
        })
        .collect()
}
