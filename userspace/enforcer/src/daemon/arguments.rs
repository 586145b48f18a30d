//! Argument vectors for the record: what is secret in them becomes a digest, so that equal secrets
//! are seen to be equal and none can be read.

use weir_mask::{MaskKey, OutputPatterns, without_secrets};

/// An option or a setting of one of these names is followed by a secret.
const NAMES: [&str; 8] = [
    "password", "passwd", "pwd", "token", "secret", "apikey", "api_key", "api-key",
];
const DOMAIN: &str = "argument";

/// Hides what it knows to be secret in arguments.
pub(crate) struct Arguments {
    key: MaskKey,
    patterns: OutputPatterns,
}

impl Arguments {
    pub(crate) const fn new(key: MaskKey, patterns: OutputPatterns) -> Self {
        Self { key, patterns }
    }

    pub(crate) fn hide(&self, argv: &[String]) -> Vec<String> {
        let mut out = Vec::with_capacity(argv.len());
        let mut follows = false;
        for argument in argv {
            out.push(if follows && !argument.starts_with('-') {
                self.digest(argument)
            } else {
                self.one(argument)
            });
            follows = names_a_secret(argument);
        }
        out
    }

    fn digest(&self, secret: &str) -> String {
        format!("[{}]", self.key.digest_text(DOMAIN, secret.as_bytes()))
    }

    fn one(&self, argument: &str) -> String {
        let named = self.url(&self.named(argument));
        without_secrets(&self.patterns.command, &named)
    }

    /// `password=…`, `token: …`, `Bearer …`.
    fn named(&self, argument: &str) -> String {
        let mut text = argument.to_owned();
        let marks = NAMES
            .iter()
            .flat_map(|name| ["=", ":"].map(|sign| format!("{name}{sign}")))
            .chain(["bearer ".to_owned(), "basic ".to_owned()]);
        for mark in marks {
            let mut from = 0;
            // ASCII lower case keeps byte positions.
            while let Some(at) = text
                .to_ascii_lowercase()
                .get(from..)
                .and_then(|rest| rest.find(&mark))
            {
                let after = from + at + mark.len();
                let rest = text.get(after..).unwrap_or_default();
                let start = after + (rest.len() - rest.trim_start().len());
                let rest = text.get(start..).unwrap_or_default();
                let stop = rest.find([' ', '&', ';', '\'', '"', ',']);
                let stop = stop.unwrap_or(rest.len());
                let digest = match rest.get(..stop) {
                    Some(secret) if !secret.is_empty() && !secret.starts_with('[') => {
                        self.digest(secret)
                    }
                    Some(_) | None => {
                        from = start;
                        continue;
                    }
                };
                text.replace_range(start..start + stop, &digest);
                from = start + digest.len();
            }
        }
        text
    }

    /// `scheme://user:password@host`
    fn url(&self, argument: &str) -> String {
        let Some((scheme, rest)) = argument.split_once("://") else {
            return argument.to_owned();
        };
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        let Some((user, password)) = authority
            .rsplit_once('@')
            .and_then(|(user, _host)| user.split_once(':'))
        else {
            return argument.to_owned();
        };
        let tail = rest.get(user.len() + 1 + password.len()..);
        let tail = tail.unwrap_or_default();
        format!("{scheme}://{user}:{}{tail}", self.digest(password))
    }
}

/// `--password`, `-token`: the next argument is the secret.
fn names_a_secret(argument: &str) -> bool {
    let Some(name) = argument.strip_prefix('-') else {
        return false;
    };
    let name = name.to_ascii_lowercase();
    !name.contains('=') && NAMES.iter().any(|secret| name.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(argv: &[&str]) -> Vec<String> {
        let patterns = OutputPatterns::new(&[], &[]).unwrap_or_else(|_| unreachable!());
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        Arguments::new(MaskKey::new([7; 32]), patterns).hide(&argv)
    }

    #[test]
    fn secrets_in_arguments_become_digests() {
        let canary = "hunter2canary";
        for argv in [
            vec!["psql", "postgres://me:hunter2canary@db/shop?x=1"],
            vec!["psql", "host=db password=hunter2canary user=me"],
            vec!["tool", "--token=hunter2canary"],
            vec!["tool", "--db-password", "hunter2canary"],
            vec!["curl", "-H", "Authorization: Bearer hunter2canary"],
            vec!["tool", "a", "PASSWORD=hunter2canary;token=hunter2canary"],
            vec!["tool", "{\"api_key\": \"x\", token: hunter2canary}"],
        ] {
            let shown = hidden(&argv).join(" ");
            assert!(!shown.contains(canary), "{shown}");
            assert!(shown.starts_with(argv[0]), "{shown}");
        }
        let same = hidden(&["a", "--token=x1", "--password=x1", "--token=x2"]);
        let digest = |text: &String| text.split_once('=').unwrap().1.to_owned();
        assert_eq!(digest(&same[1]), digest(&same[2]));
        assert_ne!(digest(&same[1]), digest(&same[3]));
    }

    #[test]
    fn other_arguments_stay_as_they_are() {
        let argv = [
            "psql",
            "-c",
            "select 1",
            "postgres://me@db/shop",
            "--password",
            "--verbose",
            "http://host:80/a@b",
            "",
        ];
        assert_eq!(hidden(&argv), argv);
    }
}
