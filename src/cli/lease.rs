//! `looop lease`, `claim` and `release`: leases of workers, and the user's own.

use anyhow::Result;

use super::{App, JsonArgs, json_output, print};
use crate::rules::fault::Fault;
use crate::rules::lease::{Here, Holder, Lease, LeaseStatus, Ttl};
use crate::rules::name::Name;
use crate::rules::time::{human_ms, parse_ms};
use crate::rules::worker::protocol::WireRequest;
use crate::store::leases::{self, Freed};
use crate::worker::client;

#[derive(Debug, clap::Subcommand)]
pub enum LeaseVerb {
    /// List the leases: who may work on what, and for how long.
    #[command(after_help = "Example:\n  looop lease list")]
    List(JsonArgs),
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
    resource: Name,
    /// Release the lease of any holder; later writes of that holder under the lease are refused.
    #[arg(long)]
    force: bool,
}

/// Lists the leases.
pub fn list(app: &App, args: &JsonArgs) -> Result<u8> {
    let here = leases::here();
    let (leases, problems) = leases::list(&app.layout, &here)?;
    if args.json {
        let rows: Vec<_> = leases.iter().map(|(lease, standing)| row(lease, *standing, &here)).collect();
        return print::answer("leases", rows);
    }
    let rows: Vec<_> = leases.iter().map(|(lease, standing)| text_row(app, lease, *standing)).collect();
    print::list(&rows, "no leases", &problems);
    Ok(0)
}

/// The public form of a lease, with its state.
pub fn row(lease: &Lease, standing: LeaseStatus, here: &Here) -> json_output::LeaseJson {
    let (state, free_in_ms, why) = match standing {
        LeaseStatus::Held(ms) => (json_output::LeaseState::Held, Some(ms), None),
        LeaseStatus::Free(why) => (json_output::LeaseState::Free, Some(0), Some(why.to_owned())),
        LeaseStatus::Foreign => (json_output::LeaseState::Elsewhere, None, None),
    };
    json_output::LeaseJson {
        lease: lease.clone(),
        state,
        why,
        age_ms: (lease.boot == here.boot).then(|| lease.age_ms(here)),
        free_in_ms,
    }
}

fn text_row(app: &App, lease: &Lease, standing: LeaseStatus) -> Vec<String> {
    let standing = match standing {
        LeaseStatus::Held(ms) => format!("for {}", human_ms(ms)),
        LeaseStatus::Free(why) => format!("free: {why}"),
        LeaseStatus::Foreign => format!("on {}; only you can release it", lease.host),
    };
    vec![
        lease.resource.to_string(),
        lease.holder.words(),
        format!("epoch {}", lease.epoch),
        format!("since {}", human_ms(app.now.elapsed_ms(lease.acquired))),
        standing,
    ]
}

/// Takes or renews a lease for the user.
pub fn claim(app: &App, args: &ClaimArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        let ttl_s = parse_ms(&args.ttl).map_err(Fault::usage)?.unsigned_abs() / 1000;
        let request = WireRequest::Claim { resource: args.resource.to_string(), ttl_s: Some(ttl_s) };
        print::line(&format!("claimed {} (epoch {})", args.resource, client::call(&socket, request)?));
        return Ok(0);
    }
    let what = format!("claim {}", args.resource);
    let person = by_hand(app, &what)?;
    let ttl = parse_ms(&args.ttl).and_then(|ms| Ttl::try_from(ms.unsigned_abs() / 1000));
    let ttl = ttl.map_err(|why| Fault::usage(format!("could not {what}: {why}")))?;
    let claimant = leases::by_hand(&person, ttl);
    match leases::acquire(&app.layout, &args.resource, &claimant, &leases::here()) {
        Ok(granted) => {
            granted.note.iter().for_each(|note| print::note(&format!("note: {note}")));
            let epoch = granted.holding.epoch;
            print::line(&format!("claimed {} for {} (epoch {epoch})", args.resource, human_ms(ttl.ms())));
            Ok(0)
        }
        Err(denied) => {
            let fault = Fault::failed(format!("could not {what}: {}", denied.refusal()?));
            Err(fault.hint(format!("`looop release {} --force` takes it from them", args.resource)).into())
        }
    }
}

/// Releases the user's own lease, or with --force the lease of any holder.
pub fn release(app: &App, args: &ReleaseArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        client::call(&socket, WireRequest::Release { resource: args.resource.to_string() })?;
        return Ok(0);
    }
    let what = format!("release {}", args.resource);
    let person = by_hand(app, &what)?;
    let stated = match leases::free(&app.layout, &args.resource, &person, args.force)? {
        Freed::Lease(lease) => {
            let from = if lease.holder == person {
                String::new()
            } else {
                format!(" from {}", lease.holder.words())
            };
            format!("released {}{from} (epoch {})", args.resource, lease.epoch)
        }
        Freed::Nobody => format!("{} was free", args.resource),
        Freed::Corrupt(kept) => {
            format!("released {}: its file was no lease and is kept as `{}`", args.resource, kept.display())
        }
        Freed::NotTheirs(lease) => {
            let (who, epoch) = (lease.holder.words(), lease.epoch);
            let fault = Fault::failed(format!("could not {what}: {who} has it (epoch {epoch})"));
            return Err(fault
                .hint(format!("`looop release {} --force` takes it from them", args.resource))
                .into());
        }
    };
    print::line(&stated);
    Ok(0)
}

/// The user as the holder of a lease.
fn by_hand(app: &App, what: &str) -> Result<Holder> {
    app.human_only(what)?;
    Ok(Holder::User(app.env.user_name()))
}
