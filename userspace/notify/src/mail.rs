//! Mail by SMTP. Plain text: nothing in it can be markup.

use std::fmt::Write as _;
use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::config::MailTls;
use crate::deliver::DeliveryError;
use crate::notice::Notice;

const TIME_MAX: Duration = Duration::from_secs(20);

pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

/// A server, how it is spoken to, and who is logged in.
pub(crate) struct Server<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: u16,
    pub(crate) tls: MailTls,
    pub(crate) login: Option<(&'a str, &'a str)>,
}

impl Mailer {
    pub(crate) fn new(server: &Server<'_>, from: &str, to: &[String]) -> Result<Self, String> {
        let parse = |text: &str| {
            text.parse::<Mailbox>()
                .map_err(|_| format!("{text} is no mail address"))
        };
        let parameters = || TlsParameters::new(server.name.to_owned()).map_err(|e| e.to_string());
        let tls = match server.tls {
            MailTls::Implicit => Tls::Wrapper(parameters()?),
            MailTls::Starttls => Tls::Required(parameters()?),
            MailTls::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.name)
            .port(server.port)
            .timeout(Some(TIME_MAX))
            .tls(tls);
        if let Some((user, password)) = server.login {
            transport =
                transport.credentials(Credentials::new(user.to_owned(), password.to_owned()));
        }
        Ok(Self {
            transport: transport.build(),
            from: parse(from)?,
            to: to
                .iter()
                .map(|text| parse(text))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) async fn send(&self, notice: &Notice) -> Result<(), DeliveryError> {
        let never = |error: lettre::error::Error| DeliveryError::Never(error.to_string());
        let mut message = Message::builder()
            .from(self.from.clone())
            // The same for each attempt: a mail program shows one of them.
            .message_id(Some(format!("<{}@weir>", notice.key)))
            .subject(one_line(&notice.headline()))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message.body(text(notice)).map_err(never)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(DeliveryError::Never(error.to_string())),
            Err(error) => Err(DeliveryError::Again(error.to_string(), None)),
        }
    }
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

fn text(notice: &Notice) -> String {
    let mut out = format!("{}\n\n", notice.headline());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a text does not fail.
            let _written = writeln!(out, "{name:<12} {value}");
        }
    };
    line("reviewers", &notice.groups.join(", "));
    line("rule", &notice.rules.join(", "));
    line("why", &notice.reason);
    line("principal", &notice.principal);
    line("process", &notice.process);
    line("decided by", &notice.approver);
    line("because", &notice.justification);
    if !notice.statement.is_empty() {
        out.push('\n');
        for part in notice.statement.lines() {
            out.push_str("    ");
            out.extend(part.chars().filter(|c| !c.is_control()));
            out.push('\n');
        }
    }
    if !notice.url.is_empty() {
        let _written = write!(out, "\n{}\n", notice.url);
    }
    out
}
