//! Wherever a command can hide in a text, it is listed, or the text is refused or unclear.

use weir_shell::parse;

const LINES: &[&str] = &[
    "echo \"$(echo \")\" ; rm x)\"",
    "echo $(echo ')' ; rm x)",
    "echo $(# c )\n rm x)",
    "echo $(case a in a) rm x;; esac)",
    "echo $(case a in (a) rm x;; esac)",
    "cat <<E\n$(rm x)\nE",
    "cat <<-E\n\t`rm x`\n\tE",
    "cat <<E; rm x\nfoo\nE",
    "cat <<\"E\"\n'\nE\nrm x",
    "cat <<< $(rm x)",
    "echo `echo \\`rm x\\``",
    "echo \"`echo \\\"$(rm x)\\\"`\"",
    "a=$(rm x) b",
    "a=(1 [3]=$(rm x))",
    "x[$(rm x)]=2 echo",
    "export X=$(rm x)",
    "x=${y/$(rm x)/z}",
    "echo ${a[$(rm x)]}",
    "echo \"${x:-\"$(rm x)\"}\"",
    "echo \"${x:-'}'$(rm x)}\"",
    "echo \"${x:-a}b}$(rm x)\"",
    "echo ${x#\"}\"}$(rm x)",
    "echo ${x:-'}'$(rm x)}",
    "[[ -n $(rm x) ]]",
    "[[ a =~ $(rm x) ]]",
    "(( a[$(rm x)] ))",
    "( ( rm x ) )",
    "for ((i=$(rm x);;)); do :; done",
    "echo > >(rm x)",
    "echo &> $(rm x)",
    "echo $((1+$(rm x))) $[1+1]",
    "echo $[1+$(rm x)]",
    "case $(rm x) in a) b;; esac",
    "case a in $(rm x)) b;; esac",
    "f() { a; } > $(rm x)",
    "time (rm x)",
    "! { rm x; }",
    "rm\\\n x",
    "echo {a,$(rm x)}",
    "echo $\"$(rm x)\"",
    "echo $(cat <<E\n)\nE\nrm x)",
    "echo \"$(cat <<'E'\n\"\nE\nrm x)\"",
    "if a; then b; elif rm x; then c; fi",
];

#[test]
fn no_command_hides() {
    for line in LINES {
        let Ok(script) = parse(line) else {
            continue;
        };
        let listed = script.commands.iter().any(|command| {
            let first = command
                .arguments
                .first()
                .and_then(|word| word.text.as_deref());
            command.name() == Some("rm") && first == Some("x")
        });
        assert!(listed || !script.unclear.is_empty(), "{line}");
    }
}

#[test]
fn what_is_quoted_is_no_command() {
    for line in [
        "echo '$(rm x)'",
        "cat <<'E'\n$(rm x)\nE",
        "echo \"\\$(rm x)\"",
        "echo a # rm x",
    ] {
        let script = parse(line).expect(line);
        assert_eq!(
            (script.commands.len(), script.unclear.len()),
            (1, 0),
            "{line}"
        );
    }
}
