//! `looop lease`, `claim` and `release`: leases of workers, and the user's own.

use anyhow::Result;

use super::json_output::{LeaseJson, LeaseState};
use super::{App, Fault, Name, complete, human_ms, print};
use crate::rules::lease::{Holder, Lease, LeaseStatus, Ttl};
use crate::rules::time::parse_ms;
use crate::rules::worker::protocol::WireRequest;
use crate::store::leases::{self, Released};
use crate::worker::client;

#[derive(Debug, clap::Subcommand)]
pub enum LeaseVerb {
    /// List the leases: who may work on what, and for how long.
    #[command(after_help = "Example:\n  looop lease list")]
    List,
    /// Take or renew a lease: only its holder works on the resource.
    #[command(after_help = "Example:\n  looop lease claim deploy --ttl 30m")]
    Claim(ClaimArgs),
    /// Release a lease.
    #[command(after_help = "Example:\n  looop lease release deploy")]
    Release(ReleaseArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop claim deploy --ttl 30m")]
pub struct ClaimArgs {
    /// What to lease: any name, or `goal.ID` to keep workers off a goal.
    resource: Name,
    /// How long the lease is valid, 5s to 24h: `30s`, `15m`, `2h`. Claim it again to renew it.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    ttl: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop release deploy")]
pub struct ReleaseArgs {
    /// The resource to release.
    #[arg(add = complete::lease_names())]
    resource: Name,
    /// Release the lease of any holder; later writes of that holder under the lease are refused.
    #[arg(long)]
    force: bool,
}

/// Lists the leases.
pub fn list(app: &App) -> Result<u8> {
    let (rows, problems) = rows(app)?;
    let cells = |row: LeaseJson| {
        let LeaseJson { lease, state, why, free_in_ms, .. } = row;
        let state = match state {
            LeaseState::Held => format!("for {}", human_ms(free_in_ms.unwrap_or_default())),
            LeaseState::Free => format!("free: {}", why.unwrap_or_default()),
            LeaseState::Elsewhere => format!("on {}; only you can release it", lease.host),
        };
        let since = format!("since {}", human_ms(app.now.elapsed_ms(lease.acquired_ms)));
        vec![lease.resource.to_string(), lease.holder.words(), format!("epoch {}", lease.epoch), since, state]
    };
    print::list(app.json, "leases", rows, cells, "no leases", &problems)
}

/// The public forms of the leases, with their states, and files that cannot be read.
pub fn rows(app: &App) -> Result<(Vec<LeaseJson>, Vec<String>)> {
    let here = leases::here();
    let (leases, problems) = leases::list(&app.layout, &here)?;
    let row = |(lease, status): (Lease, LeaseStatus)| {
        let (state, free_in_ms, why) = match status {
            LeaseStatus::Held(ms) => (LeaseState::Held, Some(ms), None),
            LeaseStatus::Free(why) => (LeaseState::Free, Some(0), Some(why.to_owned())),
            LeaseStatus::Foreign => (LeaseState::Elsewhere, None, None),
        };
        let age_ms = (lease.boot == here.boot).then(|| lease.age_ms(&here));
        LeaseJson { lease, state, why, age_ms, free_in_ms }
    };
    Ok((leases.into_iter().map(row).collect(), problems))
}

/// Takes or renews a lease for the user.
pub fn claim(app: &App, args: &ClaimArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        let ttl_s = parse_ms(&args.ttl).map_err(Fault::usage)?.unsigned_abs() / 1000;
        let request = WireRequest::Claim { resource: args.resource.to_string(), ttl_s: Some(ttl_s) };
        let epoch = client::call(&socket, request)?;
        return app.done(&args.resource, &format!("claimed {} (epoch {epoch})", args.resource));
    }
    let what = format!("claim {}", args.resource);
    let user = by_hand(app, &what)?;
    let ttl = parse_ms(&args.ttl).and_then(|ms| Ttl::try_from(ms.unsigned_abs() / 1000));
    let ttl = ttl.map_err(|why| Fault::usage(format!("could not {what}: {why}")))?;
    let identity = leases::by_hand(&user, ttl);
    match leases::acquire(&app.layout, &args.resource, &identity, &leases::here()) {
        Ok(acquired) => {
            acquired.note.iter().for_each(|note| print::note(&format!("note: {note}")));
            let epoch = acquired.holding.epoch;
            app.done(
                &args.resource,
                &format!("claimed {} for {} (epoch {epoch})", args.resource, human_ms(ttl.ms())),
            )
        }
        Err(denied) => Err(taken(&args.resource, format!("could not {what}: {}", denied.refusal()?))),
    }
}

/// Releases the user's own lease, or with --force the lease of any holder.
pub fn release(app: &App, args: &ReleaseArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        let request = WireRequest::Release { resource: args.resource.to_string() };
        client::call(&socket, request)?;
        return app.done(&args.resource, "");
    }
    let what = format!("release {}", args.resource);
    let user = by_hand(app, &what)?;
    let resource = &args.resource;
    let text = match leases::release_for_user(&app.layout, resource, &user, args.force)? {
        Released::Lease(lease) => {
            let is_own = lease.holder == user;
            let from = if is_own { String::new() } else { format!(" from {}", lease.holder.words()) };
            format!("released {resource}{from} (epoch {})", lease.epoch)
        }
        Released::Nobody => return app.shown(Some(resource.as_str()), &format!("{resource} was free")),
        Released::Corrupt(kept) => {
            format!("released {resource}: its file was no lease and is kept as `{}`", kept.display())
        }
        Released::NotTheirs(lease) => {
            let (who, epoch) = (lease.holder.words(), lease.epoch);
            return Err(taken(resource, format!("could not {what}: {who} has it (epoch {epoch})")));
        }
    };
    app.done(resource, &text)
}

/// The error for a lease that somebody else holds.
fn taken(resource: &Name, what: String) -> anyhow::Error {
    Fault::failed(what).hint(format!("`looop release {resource} --force` takes it from them")).into()
}

/// The user as the holder of a lease.
fn by_hand(app: &App, what: &str) -> Result<Holder> {
    app.user_only(what)?;
    Ok(Holder::User(app.env.user_name()))
}
