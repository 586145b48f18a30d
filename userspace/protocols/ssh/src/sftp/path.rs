//! Paths as text.

/// Folder and last name. No name when the path ends in `/`, `.` or `..`, since then the last part
/// is no name of its own.
pub(super) fn split(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once('/') {
        Some((_, "" | "." | "..")) => (path, None),
        Some(("", name)) => ("/", Some(name)),
        Some((folder, name)) => (folder, Some(name)),
        None if matches!(path, "" | "." | "..") => (path, None),
        None => (".", Some(path)),
    }
}

pub(super) fn join(folder: &str, name: Option<&str>) -> String {
    match name {
        None => folder.to_owned(),
        Some(name) if folder.ends_with('/') => format!("{folder}{name}"),
        Some(name) => format!("{folder}/{name}"),
    }
}

/// Without `.`, `..` and double slashes, relative to `home`. Says nothing of links.
pub(super) fn normal(home: &str, path: &str) -> String {
    let absolute = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{home}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in absolute.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
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
