//! `mainstem hosts`: sees and changes the hosts of a running relay, over its admin port.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::admin::Admin;
use super::host_lists;
use super::table::{self, Table};
use crate::config::{self, HostsVerb, Limit, Start};

/// Does it, and says how it went.
pub async fn run(options: &config::Hosts) -> ExitCode {
    match Session::open(options) {
        Ok(mut session) => match session.run(&options.verb).await {
            Ok(()) if session.refused == 0 => ExitCode::SUCCESS,
            Ok(()) => ExitCode::from(REFUSED),
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::from(NOT_ASKED)
}

/// One run of the command.
struct Session {
    admin: Admin,
    json: bool,
    /// Wishes that the relay has not fulfilled; each was told.
    refused: usize,
}

impl Session {
    fn open(options: &config::Hosts) -> anyhow::Result<Self> {
        let file = options.admin_token_file.as_deref().context(
            "who may ask? Name the file with the relay's token: --admin-token-file FILE",
        )?;
        let admin = Admin::new(&options.admin_url, file)?;
        Ok(Self { admin, json: options.json, refused: 0 })
    }

    async fn run(&mut self, verb: &HostsVerb) -> anyhow::Result<()> {
        match verb {
            HostsVerb::List { status } => self.list(*status).await,
            HostsVerb::Add { names, start } => {
                for name in names {
                    let body = json!({ "hostname": name, "start": word(*start) });
                    let path = "/admin/hosts".to_owned();
                    let done =
                        |host: &Value| format!("is followed: {}", table::plain(&host["status"]));
                    self.change(Method::POST, path, Some(&body), name, done).await?;
                }
                Ok(())
            }
            HostsVerb::Remove { names } => {
                for name in names {
                    let done = |_: &Value| "is forgotten".to_owned();
                    self.change(Method::DELETE, path(name, ""), None, name, done).await?;
                }
                Ok(())
            }
            HostsVerb::Ban { names } => self.each(names, "/ban", "is banned").await,
            HostsVerb::Unban { names } => self.each(names, "/unban", "is not banned").await,
            HostsVerb::Reconcile { names } => {
                self.each(names, "/reconcile", "will be compared").await
            }
            HostsVerb::Limits { name, .. } => {
                let body = limits(verb);
                self.change(Method::POST, path(name, "/limits"), Some(&body), name, told_limits)
                    .await
            }
            HostsVerb::ResetCursor { name, start } => {
                let body = json!({ "start": word(*start) });
                let path = path(name, "/reset-cursor");
                let done = |_: &Value| "is read anew".to_owned();
                self.change(Method::POST, path, Some(&body), name, done).await
            }
            HostsVerb::Import { source, start } => self.import(source, *start).await,
            HostsVerb::BanDomain { domain } => {
                self.domain(Method::POST, domain, "is banned, hosts cut off").await
            }
            HostsVerb::UnbanDomain { domain } => {
                self.domain(Method::DELETE, domain, "is not banned, hosts followed again").await
            }
            HostsVerb::DomainBans => self.domains().await,
        }
    }

    async fn list(&mut self, status: Option<config::Status>) -> anyhow::Result<()> {
        let Some(answer) = self.ask(Method::GET, "/admin/hosts", None, "").await? else {
            return Ok(());
        };
        let wanted = status.map(|status| format!("{status:?}").to_ascii_lowercase());
        let hosts = answer["hosts"].as_array().map_or(&[][..], Vec::as_slice);
        let is_wanted =
            |host: &&Value| wanted.as_ref().is_none_or(|wanted| host["status"] == wanted.as_str());
        let hosts: Vec<&Value> = hosts.iter().filter(is_wanted).collect();
        if self.json {
            return hosts.iter().try_for_each(|host| say(&host.to_string()));
        }
        let mut table = Table::new(&["HOST", "STATUS", "SINCE", "ACCOUNTS", "THROTTLED", "REASON"]);
        for host in &hosts {
            let cell = |field: &str| table::plain(&host[field]);
            let since: String = cell("since").chars().take(SINCE_CHARS).collect();
            table.row([
                cell("hostname"),
                cell("status"),
                since,
                cell("accounts"),
                cell("throttled"),
                cell("reason"),
            ]);
        }
        say(&table.render())?;
        say(&match hosts.len() {
            1 => "1 host".to_owned(),
            count => format!("{count} hosts"),
        })
    }

    async fn each(
        &mut self,
        names: &[String],
        verb: &str,
        done: &'static str,
    ) -> anyhow::Result<()> {
        for name in names {
            let done = |_: &Value| done.to_owned();
            self.change(Method::POST, path(name, verb), None, name, done).await?;
        }
        Ok(())
    }

    /// One change to one host; what is told of it when it is done.
    async fn change(
        &mut self,
        method: Method,
        path: String,
        body: Option<&Value>,
        name: &str,
        done: impl FnOnce(&Value) -> String,
    ) -> anyhow::Result<()> {
        let Some(answer) = self.ask(method, &path, body, name).await? else { return Ok(()) };
        if self.json {
            return say(&answer.to_string());
        }
        say(&format!("{name} {}", done(&answer)))
    }

    async fn import(&mut self, source: &str, start: Start) -> anyhow::Result<()> {
        let names = host_lists::read(source).await?;
        let (mut added, mut known) = (0, 0);
        for part in names.chunks(IMPORTED_AT_ONCE) {
            let body = json!({ "hosts": part, "start": word(start) });
            let asked = self.ask(Method::POST, "/admin/hosts/import", Some(&body), source).await?;
            let Some(answer) = asked else { return Ok(()) };
            if self.json {
                say(&answer.to_string())?;
            }
            added += answer["added"].as_u64().unwrap_or(0);
            known += answer["known"].as_u64().unwrap_or(0);
            for refused in answer["refused"].as_array().map_or(&[][..], Vec::as_slice) {
                let cell = |field: &str| table::plain(&refused[field]);
                self.refuse(&cell("hostname"), &cell("reason"))?;
            }
        }
        if self.json {
            return Ok(());
        }
        let refused = self.refused;
        say(&format!("{added} added, {known} known already, {refused} refused"))
    }

    async fn domain(&mut self, method: Method, domain: &str, done: &str) -> anyhow::Result<()> {
        let body = json!({ "domain": domain });
        let asked = self.ask(method, "/admin/domain-bans", Some(&body), domain).await?;
        let Some(answer) = asked else { return Ok(()) };
        if self.json {
            return say(&answer.to_string());
        }
        say(&format!("{domain} {done}: {}", table::plain(&answer["hosts"])))
    }

    async fn domains(&mut self) -> anyhow::Result<()> {
        let asked = self.ask(Method::GET, "/admin/domain-bans", None, "").await?;
        let Some(answer) = asked else { return Ok(()) };
        let domains = answer["domains"].as_array().map_or(&[][..], Vec::as_slice);
        if self.json {
            return say(&answer.to_string());
        }
        domains.iter().try_for_each(|domain| say(&table::plain(domain)))
    }

    /// The answer; `None` if the relay refuses, which is told with what it is about.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        about: &str,
    ) -> anyhow::Result<Option<Value>> {
        let (status, answer) = self.admin.ask(method, path, body).await?;
        if status == StatusCode::OK {
            return Ok(Some(answer));
        }
        let message = table::plain(&answer["message"]);
        if status == StatusCode::UNAUTHORIZED {
            anyhow::bail!("the relay does not know this token: {message}");
        }
        self.refuse(about, &message)?;
        Ok(None)
    }

    fn refuse(&mut self, about: &str, reason: &str) -> anyhow::Result<()> {
        self.refused += 1;
        let colon = if about.is_empty() { "" } else { ": " };
        writeln!(std::io::stderr(), "{about}{colon}{reason}").context("print")
    }
}

/// Where one host is, and a verb about it.
fn path(name: &str, verb: &str) -> String {
    // A URL is as good as a name, but not in a path.
    let encoded: String = url::form_urlencoded::byte_serialize(name.trim().as_bytes()).collect();
    format!("/admin/hosts/{encoded}{verb}")
}

fn word(start: Start) -> &'static str {
    match start {
        Start::Oldest => "oldest",
        Start::Live => "live",
    }
}

/// The limits that a command line names.
fn limits(verb: &HostsVerb) -> Value {
    let HostsVerb::Limits { accounts, events_per_second, events_per_hour, events_per_day, .. } =
        verb
    else {
        return json!({});
    };
    let named = [
        ("accounts", accounts),
        ("eventsPerSecond", events_per_second),
        ("eventsPerHour", events_per_hour),
        ("eventsPerDay", events_per_day),
    ];
    let set = named.into_iter().filter_map(|(name, limit)| {
        let Limit(limit) = (*limit)?;
        Some((name.to_owned(), json!(limit)))
    });
    set.collect::<serde_json::Map<_, _>>().into()
}

fn told_limits(host: &Value) -> String {
    let limit = |field: &str| match &host["limits"][field] {
        Value::Null => "no limit".to_owned(),
        limit => table::plain(limit),
    };
    format!(
        "has these limits: live accounts {}, events a second {}, an hour {}, a day {}",
        limit("accounts"),
        limit("eventsPerSecond"),
        limit("eventsPerHour"),
        limit("eventsPerDay")
    )
}

fn say(line: &str) -> anyhow::Result<()> {
    // Standard output is this command's purpose.
    writeln!(std::io::stdout().lock(), "{line}").context("print")
}

/// To the second.
const SINCE_CHARS: usize = 19;
/// Hosts in one request: a second or so.
const IMPORTED_AT_ONCE: usize = 500;
const REFUSED: u8 = 1;
const NOT_ASKED: u8 = 2;

/// For `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 the relay refuses it, or some of it (what and \
    why is on standard error), 2 not asked: the relay is not reached, the token is wrong, the list \
    cannot be read.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_of_a_path() {
        assert_eq!(path("pds.example.com", "/ban"), "/admin/hosts/pds.example.com/ban");
        assert_eq!(path("http://localhost:1/", ""), "/admin/hosts/http%3A%2F%2Flocalhost%3A1%2F");
    }

    #[test]
    fn only_limits_that_are_named_change() {
        let verb = HostsVerb::Limits {
            name: "pds.example.com".to_owned(),
            accounts: Some(Limit(Some(5))),
            events_per_second: None,
            events_per_hour: Some(Limit(None)),
            events_per_day: None,
        };
        assert_eq!(limits(&verb), json!({ "accounts": 5, "eventsPerHour": null }));
    }
}
