//! What SSH says to policy: object kinds, actions and context attributes.

use weir_model::vocabulary::{ActionKind, AttrKind, AttrType, ObjectKind, Vocabulary};

const fn object(name: &'static str, parent: Option<&'static str>, doc: &'static str) -> ObjectKind {
    ObjectKind { name, parent, doc }
}

const fn action(name: &'static str, on: &'static [&'static str], doc: &'static str) -> ActionKind {
    ActionKind { name, on, doc }
}

const fn attribute(name: &'static str, ty: AttrType, doc: &'static str) -> AttrKind {
    AttrKind {
        name,
        ty,
        required: false,
        doc,
    }
}

const OBJECTS: &[ObjectKind] = &[
    object("Account", None, "The account of the host that is used."),
    object(
        "Program",
        Some("Account"),
        "A program that a command line runs, by its base name.",
    ),
    object(
        "File",
        Some("Account"),
        "A file or directory by its path, as the server resolves it where it can be asked.",
    ),
    object(
        "Destination",
        None,
        "`host:port` that the host is asked to connect to.",
    ),
];

const ACTIONS: &[ActionKind] = &[
    action("exec", &["Account"], "A command line is run."),
    action("shell", &["Account"], "An interactive shell is opened."),
    action("sftp", &["Account"], "File transfer is opened."),
    action(
        "run",
        &["Program"],
        "A program is run, by itself or inside a command line.",
    ),
    action(
        "runUnclear",
        &["Account"],
        "A command line does something that its text does not show.",
    ),
    action(
        "readOutput",
        &["Account"],
        "Output of commands and shells is seen. Masked by @mask on it.",
    ),
    action("readFile", &["File"], "A file's content is read."),
    action(
        "writeFile",
        &["File"],
        "A file or directory is made, changed or replaced.",
    ),
    action("deleteFile", &["File"], "A file or directory is removed."),
    action("listFiles", &["File"], "A directory's names are listed."),
    action(
        "statFile",
        &["File"],
        "Properties of a file, its real path or a link's target are read.",
    ),
    action(
        "forward",
        &["Destination"],
        "A connection is made from the host (direct-tcpip).",
    ),
];

const CONTEXT: &[AttrKind] = &[
    attribute("user", AttrType::String, "Account that is used."),
    attribute(
        "requestedUser",
        AttrType::String,
        "Account that the client asked for.",
    ),
    attribute("command", AttrType::String, "The command line."),
    attribute(
        "programs",
        AttrType::StringSet,
        "Base names of the programs that it runs.",
    ),
    attribute(
        "arguments",
        AttrType::StringSet,
        "Their arguments, without quotes where the text shows them.",
    ),
    attribute(
        "unclear",
        AttrType::StringSet,
        "What its text does not show.",
    ),
    attribute("terminal", AttrType::Bool, "A terminal was asked for."),
    attribute("host", AttrType::String, "Host of a destination."),
    attribute("port", AttrType::Long, "Port of a destination."),
    attribute(
        "operation",
        AttrType::String,
        "Operation of the file transfer protocol.",
    ),
];

/// The vocabulary of this protocol.
pub const VOCABULARY: Vocabulary = Vocabulary {
    namespace: "Ssh",
    objects: OBJECTS,
    actions: ACTIONS,
    context: CONTEXT,
    maskable: &["readOutput"],
    predicate: None,
};
