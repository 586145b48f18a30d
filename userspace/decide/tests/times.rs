//! What a set's answers depend on of the time is told from the policies' own text.

use weir_decide::{PolicySet, PolicySettings, PolicySource};
use weir_model::time::{Cuts, TimesRead};
use weir_postgres::vocabulary::VOCABULARY;

fn times(condition: &str) -> TimesRead {
    let source = PolicySource {
        name: "a.cedar".to_owned(),
        text: format!(
            "@id(\"a\") @reason(\"r\") permit (principal, action == Postgres::Action::\"select\", resource) \
             when {{ {condition} }};"
        ),
    };
    let settings = PolicySettings {
        targets: vec!["demo".to_owned()],
        ..PolicySettings::default()
    };
    let set = PolicySet::compile(&[source], &[&VOCABULARY], &settings);
    set.unwrap_or_else(|problems| panic!("{condition}: {problems:?}"))
        .times()
        .clone()
}

fn at(numbers: &[i64]) -> Cuts {
    Cuts::At(numbers.iter().copied().collect())
}

#[test]
fn comparisons_with_numbers_cut_the_time() {
    assert!(!times("context.readOnly").any());
    let window = times("context.weekday >= 6 || (context.weekday == 5 && 1600 <= context.time)");
    let expected = TimesRead {
        time: at(&[1600]),
        weekday: at(&[5, 6]),
        ..TimesRead::default()
    };
    assert_eq!(window, expected);
    let days = times("[20261224, 20261225].contains(context.date)");
    assert_eq!(days.date, at(&[20_261_224, 20_261_225]));
}

#[test]
fn all_else_reads_it_whole() {
    let sum = times("context.time + context.weekday > 1200");
    assert_eq!((sum.time, sum.weekday), (Cuts::Each, Cuts::Each));
    assert_eq!(sum.date, Cuts::default());
    // A cut beside it changes nothing.
    let both = times("context.time < 600 || context.time * 2 > 3000");
    assert_eq!(both.time, Cuts::Each);
    // What Cedar evaluates is not looked into.
    let cedar = times(r#"ip("10.0.0.1").isInRange(ip("10.0.0.0/8"))"#);
    assert_eq!(cedar, TimesRead::each());
}
