//! The Cedar schema, generated from the vocabularies of the protocols.

use std::fmt::Write;

use weir_model::vocabulary::{AttrType, Vocabulary};

/// Cedar schema syntax for the shared namespace and every protocol, what things mean as comments.
#[must_use]
pub fn schema(vocabularies: &[&'static Vocabulary]) -> String {
    text(vocabularies)
}

/// The same for this crate.
pub(crate) fn text(vocabularies: &[&'static Vocabulary]) -> String {
    let mut out = String::from(
        "namespace Weir {\n  entity Group;\n  entity Role;\n  entity Application;\n  \
         entity Agent in [Group, Role, Application] {\n    workload: String,\n    \
         tenant: String,\n    kind: String,\n    onBehalfOf?: String,\n    \
         presented?: Agent,\n    attested?: Agent,\n  };\n  \
         entity Target { name: String };\n}\n",
    );
    for vocabulary in vocabularies {
        protocol(&mut out, vocabulary);
    }
    out
}

fn protocol(out: &mut String, vocabulary: &Vocabulary) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "namespace {} {{", vocabulary.namespace);
    for object in vocabulary.objects {
        let parent = object.parent.unwrap_or("Weir::Target");
        comment(out, object.doc);
        let _infallible = writeln!(
            out,
            "  entity {} in [{parent}] {{ name: String }};",
            object.name
        );
    }
    let mut context = String::from(
        "    // Date in UTC: 20261224 is Christmas Eve of 2026.\n    date: Long,\n    \
         // Time of day in UTC: 1830 is half past six in the evening.\n    time: Long,\n    \
         // Day of the week in UTC: Monday is 1, Sunday 7.\n    weekday: Long,\n",
    );
    for attr in vocabulary.context {
        let ty = match attr.ty {
            AttrType::Bool => "Bool",
            AttrType::Long => "Long",
            AttrType::String => "String",
            AttrType::StringSet => "Set<String>",
        };
        let optional = if attr.required { "" } else { "?" };
        let _infallible = writeln!(context, "    // {}", attr.doc);
        let _infallible = writeln!(context, "    {}{optional}: {ty},", attr.name);
    }
    let _infallible = writeln!(out, "  type Context = {{\n{context}  }};");
    for action in vocabulary.actions {
        comment(out, action.doc);
        let _infallible = writeln!(
            out,
            "  action \"{}\" appliesTo {{ principal: [Weir::Agent], resource: [{}], \
             context: Context }};",
            action.name,
            action.on.join(", ")
        );
    }
    out.push_str("}\n");
}

fn comment(out: &mut String, doc: &str) {
    let _infallible = writeln!(out, "  // {doc}");
}
