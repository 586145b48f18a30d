//! Bash runs substitutions in what was quoted, where it takes a text for arithmetic or for a
//! variable's name; shells disagree about ends. Such texts are unclear, everyday ones are not.

use weir_shell::parse;

const UNCLEAR: &[&str] = &[
    "a='x[$(rm x)]'; echo $((a))",
    "echo $((1 + LC_X))",
    "echo \"$((`echo x`))\"",
    "echo $[a]",
    "echo ${b[a]}",
    "echo ${b[$i]}",
    "echo ${#b[a]}",
    "echo ${b:a}",
    "echo ${b:$a:1}",
    "echo ${b:1:a}",
    "echo ${@:a}",
    "echo ${!a}",
    "echo ${a@P}",
    "echo ${ rm x; }",
    "echo ${|rm x; }",
    "echo \"${ rm; }\"",
    "cat <<E\n${b[a]}\nE",
    "cat <<< $((a))",
    "x[a]=1",
    "x=([a]=1)",
    "x=(['y[$(rm x)]']=1)",
    "[[ 'x[$(rm x)]' -eq 0 ]]",
    "[[ 0 -lt $a ]]",
    "[[ -v 'x[$(rm x)]' ]]",
    "[[ -v $a ]]",
    "test -v 'x[$(rm x)]'",
    "[ -v 'x[$(rm x)]' ]",
    "test $a",
    "test \"$a\" \"$b\"",
    "test \"$@\"",
    "command test -v 'x[1]'",
    "printf -v 'x[$(rm x)]' a",
    "printf -vx a",
    "printf \"$a\" b",
    "read 'x[$(rm x)]' <<< 1",
    "let 'x[$(rm x)]'",
    "declare -i z='x[$(rm x)]'",
    "declare -n z=a",
    "export PATH=/tmp",
    "unset 'x[$(rm x)]'",
    "hash -p /bin/rm ls; ls x",
    "jobs -x rm x",
    "compgen -W '$(rm x)'",
    "PS4='$(rm x)'; set -x; ls",
    "BASH_ALIASES[ls]='rm x'",
    "BASH_CMDS[ls]=/bin/rm; ls x",
    "RANDOM='x[$(rm x)]'",
    "for SECONDS in 'x[$(rm x)]'; do ls; done",
    "for ((i=a; i<1; i++)); do ls; done",
    // A line is joined before the end of a here-document is looked for.
    "cat <<EOF\nEO\\\nF\nrm x\nEOF",
    "cat <<EOF\nx\\\nEOF\ncat <<'Z'\nEOF\nrm x\nZ",
    "cat <<$\"EO\"\nEO\nrm x\n$EO",
    // To a POSIX shell: the end of a command, plain characters.
    "echo a &>/dev/null rm x",
    "echo $[ 1 ; rm x ]",
    // To bash a redirection, to others a word.
    "{x}>/dev/null rm x",
    "echo a {x}>/dev/null rm x",
];

const CLEAR: &[&str] = &[
    "echo $a ${a} \"${a}\" ${#a} $# $? $! ${!}",
    "echo ${a:-x} ${a:=x} ${a:+y} ${a:?gone} ${a-b}",
    "echo ${a#x} ${a%%.*} ${a/b/c} ${a^^} ${a,,} ${a@Q}",
    "echo ${a:1} ${a:1:2} ${a: -1} ${a[0]} ${a[@]} ${#a[*]} ${a[1]:2}",
    "echo $((1 + 2 * (3 << 4))) $[1+1]",
    "a=1; b[0]=2; c=(1 2); d=([0]=1)",
    "test -f x -a -n \"$a\"",
    "test \"$a\" = b",
    "[ -d /srv ]",
    "[[ -n $a ]] || [[ 1 -eq 1 ]] || [[ -v a ]]; true",
    "printf '%s\\n' \"$a\"",
    "export A=b; read -r line; unset a",
    "for i in 1 2; do echo $i; done",
    "cat <<E\n$a ${b}\nE",
    "ls &> out",
    "RANDOM=5",
    "echo a{b}c > x",
];

#[test]
fn what_is_evaluated_is_unclear() {
    for line in UNCLEAR {
        if let Ok(script) = parse(line) {
            assert!(!script.unclear.is_empty(), "{line}");
        }
    }
}

#[test]
fn everyday_expansions_are_clear() {
    for line in CLEAR {
        let script = parse(line).expect(line);
        assert_eq!(script.unclear, [], "{line}");
    }
}
