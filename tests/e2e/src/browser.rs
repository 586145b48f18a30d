//! A real Chromium, headless, driven by chromedriver (W3C WebDriver, plus its DevTools command).
//!
//! Libraries for this bring an asynchronous HTTP stack each, for a dozen calls of one JSON protocol
//! over loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::until;

use self::room::Room;

mod room;

/// The name of an element's reference (WebDriver, section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// For failures, not a wait: a machine that does much else takes its time.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Without a display, a sandbox (tests run as root), or a word to anybody.
const FLAGS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
];

/// One browser with an empty profile; ends with this value.
pub struct Browser {
    room: Room,
    driver: Child,
    port: u16,
    session: String,
    profile: PathBuf,
}

impl Browser {
    /// Starts one that reaches these origins (`https://10.77.0.1:8443`) and nothing else.
    ///
    /// # Errors
    /// `chromium` or `chromedriver` is missing or does not start.
    pub fn start(origins: &[&str]) -> Result<Self> {
        let room = Room::with_doors_to(origins)?;
        let mut driver = room
            .inside(|| {
                Command::new("chromedriver")
                    .arg("--port=0")
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
            })?
            .context("starting chromedriver (Debian's chromium-driver)")?;
        let out = driver.stdout.take();
        let port = match out.context("chromedriver's output").and_then(port_of) {
            Ok(port) => port,
            Err(error) => {
                let _ended = driver.kill();
                return Err(error);
            }
        };
        let profile =
            std::env::temp_dir().join(format!("weir-browser-{}-{port}", std::process::id()));
        let mut browser = Self {
            room,
            driver,
            port,
            session: String::new(),
            profile,
        };
        let mut flags: Vec<String> = FLAGS.iter().map(ToString::to_string).collect();
        flags.push(format!("--user-data-dir={}", browser.profile.display()));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": flags, "binary": "/usr/bin/chromium" },
        } } });
        let made = browser.call("POST", "/session", &wanted)?;
        let id = made["sessionId"].as_str().context("a session")?;
        browser.session = format!("/session/{id}");
        Ok(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut stream = self.room.connect(self.port).context("chromedriver")?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        // The driver keeps the connection, whatever it is asked: the length says where to stop.
        let mut reader = BufReader::new(stream);
        let mut length = None;
        loop {
            let mut line = String::new();
            let read = reader
                .read_line(&mut line)
                .context("chromedriver's answer")?;
            ensure!(read > 0, "chromedriver broke off");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>().context("a length")?);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length.context("an answer with a length")?];
        reader
            .read_exact(&mut body)
            .context("chromedriver's answer")?;
        let text = String::from_utf8_lossy(&body);
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))?;
        let value = value.get("value").cloned().unwrap_or_default();
        if let Some(error) = value.get("error") {
            bail!(
                "{method} {path}: {error}: {}",
                value["message"].as_str().unwrap_or_default()
            );
        }
        Ok(value)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", &format!("{}{path}", self.session), body)
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", &format!("{}{path}", self.session), &Value::Null)
    }

    /// Goes to a page and waits until it is loaded.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn go(&self, url: &str) -> Result<()> {
        until(
            "a page that no change of the network broke off",
            SHOWN_WITHIN,
            || {
                let went = self.post("/url", &json!({ "url": url }));
                let broken = |text: &str| text.contains("ERR_NETWORK_CHANGED");
                match went {
                    Err(error) if broken(&format!("{error:#}")) => Ok(None),
                    Err(error) => Err(error),
                    Ok(_) => Ok((!broken(&self.page().unwrap_or_default())).then_some(())),
                }
            },
        )
    }

    /// Where the browser is.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn url(&self) -> Result<String> {
        Ok(self.get("/url")?.as_str().unwrap_or_default().to_owned())
    }

    /// The element of a selector, once it is there.
    fn find(&self, css: &str) -> Result<String> {
        let asked = json!({ "using": "css selector", "value": css });
        until(&format!("{css} on the page"), SHOWN_WITHIN, || {
            let found = self.post("/elements", &asked)?;
            let first = found.get(0).and_then(|one| one[ELEMENT].as_str());
            Ok(first.map(str::to_owned))
        })
        .with_context(|| self.page().unwrap_or_default())
    }

    /// Whether there is such an element now.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn has(&self, css: &str) -> Result<bool> {
        let asked = json!({ "using": "css selector", "value": css });
        let found = self.post("/elements", &asked)?;
        Ok(found.as_array().is_some_and(|all| !all.is_empty()))
    }

    /// Waits for an element.
    ///
    /// # Errors
    /// It does not come.
    pub fn shows(&self, css: &str) -> Result<()> {
        self.find(css).map(drop)
    }

    /// The text that a person sees in an element.
    ///
    /// # Errors
    /// It is not there.
    pub fn text(&self, css: &str) -> Result<String> {
        let element = self.find(css)?;
        let text = self.get(&format!("/element/{element}/text"))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an element's text contains this.
    ///
    /// # Errors
    /// It does not.
    pub fn reads(&self, css: &str, part: &str) -> Result<()> {
        until(&format!("{part:?} in {css}"), SHOWN_WITHIN, || {
            // The element may be replaced between the look and the question.
            let text = self.text(css).unwrap_or_default();
            Ok(text.contains(part).then_some(()))
        })
        .with_context(|| self.page().unwrap_or_default())
    }

    /// # Errors
    /// The element is not there or covered.
    pub fn click(&self, css: &str) -> Result<()> {
        let element = self.find(css)?;
        self.post(&format!("/element/{element}/click"), &json!({}))
            .map(drop)
    }

    /// Types into an element.
    ///
    /// # Errors
    /// It is not there or takes no text.
    pub fn write(&self, css: &str, text: &str) -> Result<()> {
        let element = self.find(css)?;
        let path = format!("/element/{element}/value");
        self.post(&path, &json!({ "text": text })).map(drop)
    }

    /// Presses keys, wherever the focus is. `\u{E007}` is Enter, `\u{E004}` Tab.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn press(&self, keys: &str) -> Result<()> {
        let mut actions = Vec::new();
        for key in keys.chars() {
            let key = key.to_string();
            actions.push(json!({ "type": "keyDown", "value": key }));
            actions.push(json!({ "type": "keyUp", "value": key }));
        }
        let body = json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] });
        self.post("/actions", &body).map(drop)
    }

    /// Presses the mouse's button on an element and keeps it down.
    ///
    /// # Errors
    /// The element is not there.
    pub fn hold_down(&self, css: &str) -> Result<()> {
        let element = self.find(css)?;
        self.pointer(&json!([
            { "type": "pointerMove", "duration": 0, "origin": { ELEMENT: element }, "x": 0, "y": 0 },
            { "type": "pointerDown", "button": 0 },
        ]))
    }

    /// Lets it go again.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn let_go(&self) -> Result<()> {
        self.pointer(&json!([{ "type": "pointerUp", "button": 0 }]))
    }

    fn pointer(&self, actions: &Value) -> Result<()> {
        let body = json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": actions }] });
        self.post("/actions", &body).map(drop)
    }

    /// Runs a script in the page; its `return` value.
    ///
    /// # Errors
    /// It throws.
    pub fn script(&self, text: &str) -> Result<Value> {
        self.post("/execute/sync", &json!({ "script": text, "args": [] }))
    }

    /// The same for one that ends by calling its last argument.
    ///
    /// # Errors
    /// It throws or does not end.
    pub fn promise(&self, text: &str) -> Result<Value> {
        self.post("/execute/async", &json!({ "script": text, "args": [] }))
    }

    /// All text of the page.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn page(&self) -> Result<String> {
        let text = self.script("return document.body ? document.body.innerText : ''")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn devtools(&self, command: &str, params: &Value) -> Result<()> {
        let body = json!({ "cmd": command, "params": params });
        self.post("/goog/cdp/execute", &body).map(drop)
    }

    /// A window of this size, on a desk or a phone, by day or by night.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn look(&self, (width, height): (u32, u32), dark: bool) -> Result<()> {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &media)
    }

    /// Keeps a picture of the page below `target/console-screenshots`, which is removed by nobody.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn picture(&self, name: &str) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/console-screenshots");
        fs::create_dir_all(&folder).context("a folder for pictures")?;
        let png = self.get("/screenshot")?;
        let png = STANDARD
            .decode(png.as_str().unwrap_or_default())
            .context("a picture")?;
        ensure!(png.len() > 2000, "an empty picture of {name}");
        fs::write(folder.join(format!("{name}.png")), png).context("keeping a picture")
    }
}

/// chromedriver says which port it took.
fn port_of(out: ChildStdout) -> Result<u16> {
    let mut lines = BufReader::new(out).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let rest = line.split_once("on port ")?.1;
        rest.trim_end_matches('.')
            .parse()
            .ok()
            .filter(|port| *port != 0)
    });
    // Nothing reads what it says later.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    port.context("chromedriver named no port")
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _closed = self.call("DELETE", &self.session, &json!({}));
        }
        let _ended = self.driver.kill();
        let _gone = self.driver.wait();
        let _removed = fs::remove_dir_all(&self.profile);
    }
}
