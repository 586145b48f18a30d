//! What Kubernetes says to policy: object kinds, actions and context attributes.

use weir_model::vocabulary::{
    ActionKind, AttrKind, AttrType, ObjectKind, Vocabulary, action, object, optional,
};

/// In place of a namespace: objects of the cluster itself.
pub const CLUSTER: &str = "_cluster";
/// In place of a namespace: all namespaces at once.
pub const ALL_NAMESPACES: &str = "_all";

const OBJECTS: &[ObjectKind] = &[
    object(
        "Namespace",
        None,
        "A namespace; `_cluster` for objects outside of namespaces, `_all` for a request over all.",
    ),
    object(
        "Resource",
        Some("Namespace"),
        "A resource type, `group/resource` or `resource` in the core group, with `/subresource`.",
    ),
    object("Object", Some("Resource"), "One object, by its name."),
    object(
        "Path",
        None,
        "A path outside of resources: discovery, /version, /openapi …",
    ),
];

const ON_RESOURCES: &[&str] = &["Resource", "Object"];

const ACTIONS: &[ActionKind] = &[
    action("get", ON_RESOURCES, "One object is read."),
    action("list", ON_RESOURCES, "Objects are listed."),
    action("watch", ON_RESOURCES, "Changes of objects are followed."),
    action("create", ON_RESOURCES, "An object is created."),
    action("update", ON_RESOURCES, "An object is replaced."),
    action("patch", ON_RESOURCES, "An object is changed in part."),
    action("delete", ON_RESOURCES, "One object is deleted."),
    action(
        "deletecollection",
        ON_RESOURCES,
        "All objects that match are deleted.",
    ),
    action(
        "readSecret",
        ON_RESOURCES,
        "Values of Secrets stand in the reply. Masked by @mask on it.",
    ),
    action(
        "readConfig",
        ON_RESOURCES,
        "Values of ConfigMaps stand in the reply.",
    ),
    action("readLogs", ON_RESOURCES, "Output of containers is read."),
    action(
        "exec",
        ON_RESOURCES,
        "A command is run in a container; `kubectl cp` runs tar.",
    ),
    action(
        "attach",
        ON_RESOURCES,
        "A running container's input and output are taken.",
    ),
    action(
        "readOutput",
        ON_RESOURCES,
        "Output of exec and attach is seen. Masked by @mask on it.",
    ),
    action(
        "openPortForward",
        ON_RESOURCES,
        "A connection is opened over which ports are asked for, each as portForward.",
    ),
    action(
        "portForward",
        ON_RESOURCES,
        "A port of a pod is reached; context.port says which.",
    ),
    action(
        "mintToken",
        ON_RESOURCES,
        "A token of a service account is issued.",
    ),
    action(
        "writeRbac",
        ON_RESOURCES,
        "Roles or their bindings are changed.",
    ),
    action(
        "writeWebhook",
        ON_RESOURCES,
        "Admission webhooks or API services, which see other requests, are changed.",
    ),
    action(
        "addEphemeralContainer",
        ON_RESOURCES,
        "A container is put into a running pod.",
    ),
    action("scale", ON_RESOURCES, "A number of replicas is changed."),
    action("evict", ON_RESOURCES, "A pod is evicted."),
    action(
        "approveCertificate",
        ON_RESOURCES,
        "A certificate is approved or signed.",
    ),
    action(
        "readPath",
        &["Path"],
        "A path outside of resources is read.",
    ),
];

const CONTEXT: &[AttrKind] = &[
    optional("verb", AttrType::String, "As RBAC names it."),
    optional(
        "group",
        AttrType::String,
        "API group; empty for the core group.",
    ),
    optional("version", AttrType::String, "API version."),
    optional("resource", AttrType::String, "Resource, in plural."),
    optional(
        "subresource",
        AttrType::String,
        "Sub-resource; empty without.",
    ),
    optional("namespace", AttrType::String, "Namespace; empty without."),
    optional(
        "name",
        AttrType::String,
        "Name of the object; empty without.",
    ),
    optional("labelSelector", AttrType::String, "As the client sent it."),
    optional("fieldSelector", AttrType::String, "As the client sent it."),
    optional("dryRun", AttrType::Bool, "Nothing is persisted."),
    optional(
        "allNamespaces",
        AttrType::Bool,
        "The request is over all namespaces.",
    ),
    optional(
        "command",
        AttrType::String,
        "Of exec: all arguments, joined by blanks.",
    ),
    optional(
        "program",
        AttrType::String,
        "Of exec: the first argument, as the client sent it.",
    ),
    optional(
        "arguments",
        AttrType::StringSet,
        "Of exec: all arguments, without order.",
    ),
    optional(
        "container",
        AttrType::String,
        "Of exec and attach, where the client names one.",
    ),
    optional(
        "stdin",
        AttrType::Bool,
        "Of exec and attach: input is given.",
    ),
    optional(
        "tty",
        AttrType::Bool,
        "Of exec and attach: a terminal, whose input policy does not see.",
    ),
    optional("port", AttrType::Long, "Of portForward."),
];

/// The vocabulary of this protocol.
pub const VOCABULARY: Vocabulary = Vocabulary {
    namespace: "Kubernetes",
    objects: OBJECTS,
    actions: ACTIONS,
    context: CONTEXT,
    maskable: &["readSecret", "readConfig", "readOutput", "readLogs"],
    showable: &[],
    predicate: None,
};
