//! What SSH says to policy: object kinds, actions and context attributes.

use weir_model::vocabulary::{
    ActionKind, AttrKind, AttrType, ObjectKind, Vocabulary, action, object, optional,
};

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
    optional("user", AttrType::String, "Account that is used."),
    optional(
        "requestedUser",
        AttrType::String,
        "Account that the client asked for.",
    ),
    optional("command", AttrType::String, "The command line."),
    optional(
        "programs",
        AttrType::StringSet,
        "Base names of the programs that it runs.",
    ),
    optional(
        "arguments",
        AttrType::StringSet,
        "Their arguments, without quotes where the text shows them.",
    ),
    optional(
        "unclear",
        AttrType::StringSet,
        "What its text does not show.",
    ),
    optional("terminal", AttrType::Bool, "A terminal was asked for."),
    optional("host", AttrType::String, "Host of a destination."),
    optional("port", AttrType::Long, "Port of a destination."),
    optional(
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
    showable: &[],
    predicate: None,
};
