//! Paths as text.

/// Folder and last name. No name when the path ends in `/`, `.` or `..`, since then the last part
/// is no name of its own.
pub(crate) fn split(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once('/') {
        Some((_, "" | "." | "..")) => (path, None),
        Some(("", name)) => ("/", Some(name)),
        Some((folder, name)) => (folder, Some(name)),
        None if matches!(path, "" | "." | "..") => (path, None),
        None => (".", Some(path)),
    }
}

pub(crate) fn join(folder: &str, name: Option<&str>) -> String {
    match name {
        None => folder.to_owned(),
        Some(name) if folder.ends_with('/') => format!("{folder}{name}"),
        Some(name) => format!("{folder}/{name}"),
    }
}

/// Without `.`, `..` and double slashes, relative to `home`, which may be `~` where it is not known;
/// what climbs out of that is `~/…` nevertheless. Says nothing of links.
pub(crate) fn normal(home: &str, path: &str) -> String {
    let (root, rest) = if path.starts_with('/') {
        ("", path.to_owned())
    } else if home.starts_with('/') {
        ("", format!("{home}/{path}"))
    } else {
        (home, path.to_owned())
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("{root}/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_at_its_last_name() {
        for (path, expected) in [
            ("/a/b", ("/a", Some("b"))),
            ("/a", ("/", Some("a"))),
            ("a", (".", Some("a"))),
            ("a/b", ("a", Some("b"))),
            ("/", ("/", None)),
            ("a/", ("a/", None)),
            ("a/..", ("a/..", None)),
            (".", (".", None)),
            ("", ("", None)),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
        assert_eq!(join("/", Some("a")), "/a");
        assert_eq!(join("/a", Some("b")), "/a/b");
        assert_eq!(join("/a", None), "/a");
    }

    #[test]
    fn dots_and_slashes_are_taken_out() {
        for (path, expected) in [
            ("a", "/home/x/a"),
            ("../y", "/home/y"),
            ("/etc/../etc//shadow", "/etc/shadow"),
            ("../../../..", "/"),
            ("./a/./b", "/home/x/a/b"),
        ] {
            assert_eq!(normal("/home/x", path), expected, "{path}");
        }
    }
}
