//! One binary, several roles: broker, stand-in node, attempts, donors of sockets.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use weir_kernel_tests::recipes::{self, Carry, Recipe, Scene};
use weir_kernel_tests::{jail, lab, probes, roles};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            roles::say(&format!("broken {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let word = |at: usize| -> Result<&str, Box<dyn Error>> {
        Ok(arguments.get(at).ok_or("too few arguments")?.as_str())
    };
    match word(0)? {
        "broker" => roles::broker(word(1)?),
        "node" => roles::node(Path::new(word(1)?)),
        "donor" => Ok(recipes::give(word(1)?, word(2)?.parse()?)?),
        // recipe NAME CGROUP NETNS PORT OWN4 OWN6
        "recipe" => {
            let recipe = find(word(1)?)?;
            let scene = scene(arguments)?;
            jail::enter_namespace(Path::new(word(3)?))?;
            let carry = (recipe.before)(&scene)?;
            jail::enter_cgroup(Path::new(word(2)?))?;
            jail::drop_host()?;
            report((recipe.attack)(&scene, carry));
            Ok(())
        }
        // The same arguments: a container's first process floods as soon as it is one.
        "flood" => {
            let scene = scene(arguments)?;
            jail::enter_namespace(Path::new(word(3)?))?;
            let cgroup = Path::new(word(2)?);
            report(recipes::flood(&scene, || jail::enter_cgroup(cgroup)));
            Ok(())
        }
        // probe KIND CGROUP NETNS TO [OTHER]; an empty cgroup is none.
        "probe" => {
            jail::enter_namespace(Path::new(word(3)?))?;
            if !word(2)?.is_empty() {
                jail::enter_cgroup(Path::new(word(2)?))?;
            }
            jail::drop_host()?;
            let other = arguments.get(5).map(|text| text.parse()).transpose()?;
            report(probes::run(word(1)?, word(4)?.parse()?, other));
            Ok(())
        }
        // The same arguments, by a process that is inside already.
        "attack" => {
            report((find(word(1)?)?.attack)(
                &scene(arguments)?,
                Carry::default(),
            ));
            Ok(())
        }
        other => Err(format!("no role {other}").into()),
    }
}

fn find(name: &str) -> Result<Recipe, Box<dyn Error>> {
    let table = recipes::table();
    let mut found = table.into_iter().filter(|recipe| recipe.name == name);
    Ok(found.next().ok_or("no such recipe")?)
}

fn scene(arguments: &[String]) -> Result<Scene, Box<dyn Error>> {
    let word = |at: usize| arguments.get(at).ok_or("too few arguments");
    Ok(Scene {
        server4: lab::SERVER4,
        server6: lab::SERVER6,
        port: word(4)?.parse()?,
        open_port: lab::OPEN_PORT,
        own4: word(5)?.parse()?,
        own6: word(6)?.parse()?,
        server_mac: lab::SERVER_MAC,
        device: "eth0",
    })
}

fn report(outcome: io::Result<String>) {
    match outcome {
        Ok(said) => roles::say(&format!("said {said}")),
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(0);
            roles::say(&format!("failed {number} {error}"));
        }
    }
}
