//! The system call filter: it refuses calls that no child needs, and calls that lead out of a sandbox or around
//! Landlock.

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::rules::sandbox::Net;

/// Calls that are refused whatever their arguments are: namespaces and mounts, call queues that bypass filters, the
/// kernel's own state, descriptors of other processes, and files by handle.
const REFUSED: [i64; 45] = [
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
];
/// Flags of `clone` that make namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
/// The bit with which x86-64 marks its x32 variant: the same call under another number.
#[cfg(target_arch = "x86_64")]
const TWIN: i64 = 0x4000_0000;

/// How a filter treats the internet.
#[derive(Clone, Copy)]
enum Inet {
    Open,
    TcpOnly,
    Closed,
}

/// Applies the filter to this thread.
pub(super) fn apply(net: &Net, has_files: bool) -> io::Result<()> {
    static PROGRAMS: [OnceLock<Result<[BpfProgram; 2], String>>; 3] = [const { OnceLock::new() }; 3];
    let inet = match (net, has_files) {
        // The network is then a namespace with only its own loopback, which tests need.
        (Net::On | Net::Internet, _) | (Net::Off, true) => Inet::Open,
        (Net::Ports(_), _) => Inet::TcpOnly,
        (Net::Off, _) => Inet::Closed,
    };
    let programs = PROGRAMS[inet as usize].get_or_init(|| compile(inet).map_err(|error| error.to_string()));
    let programs = programs.as_ref().map_err(|error| io::Error::other(error.clone()))?;
    for program in programs {
        seccompiler::apply_filter(program)
            .map_err(|error| io::Error::other(format!("could not apply the system call filter: {error}")))?;
    }
    Ok(())
}

/// Compiles two programs, because a filter has one result: `refused`, and for `clone3` `unknown`. The C library then
/// falls back to `clone`, whose flags a filter can inspect.
fn compile(inet: Inet) -> seccompiler::Result<[BpfProgram; 2]> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // A condition can say "this bit is set", not "any of these is".
    let bits = (0..u32::BITS).map(|bit| 1_u64 << bit).filter(|bit| NAMESPACES as u32 as u64 & bit != 0);
    let clone: Vec<SeccompRule> =
        bits.map(|bit| rule(&[(0, SeccompCmpOp::MaskedEq(bit), bit)])).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, clone);
    rules.insert(libc::SYS_socket, sockets(inet)?);
    if matches!(inet, Inet::TcpOnly) {
        // Data in the first packet connects without `connect`, where Landlock checks the port.
        let fast = libc::MSG_FASTOPEN as u64;
        for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            rules.insert(call, vec![rule(&[(flags, SeccompCmpOp::MaskedEq(fast), fast)])?]);
        }
    }
    #[allow(clippy::unnecessary_cast, reason = "musl has the numbers of these calls signed")]
    let ioctls = [libc::TIOCSTI as u64, libc::TIOCLINUX as u64];
    let ioctls = ioctls.iter().map(|call| rule(&[(1, SeccompCmpOp::Eq, *call)]));
    rules.insert(libc::SYS_ioctl, ioctls.collect::<Result<_, _>>()?);
    let refused = program(rules, libc::EPERM)?;
    let unknown = program([(libc::SYS_clone3, Vec::new())].into_iter().collect(), libc::ENOSYS)?;
    Ok([refused, unknown])
}

/// Refuses families other than unix, internet and netlink: some reach out of a machine, and no child needs them.
fn sockets(inet: Inet) -> seccompiler::Result<Vec<SeccompRule>> {
    let known = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let other: Vec<_> = known.iter().map(|family| (0, SeccompCmpOp::Ne, *family as u64)).collect();
    let mut rules = vec![rule(&other)?];
    for family in [libc::AF_INET as u64, libc::AF_INET6 as u64] {
        match inet {
            Inet::Open => {}
            Inet::Closed => rules.push(rule(&[(0, SeccompCmpOp::Eq, family)])?),
            // The low four bits hold the type, and only a stream has just the first of them.
            Inet::TcpOnly => {
                for (bit, wrong) in [(1, 0), (2, 2), (4, 4), (8, 8)] {
                    let is = SeccompCmpOp::MaskedEq(bit);
                    rules.push(rule(&[(0, SeccompCmpOp::Eq, family), (1, is, wrong)])?);
                }
                let tcp = libc::IPPROTO_TCP as u64;
                let other =
                    [(0, SeccompCmpOp::Eq, family), (2, SeccompCmpOp::Ne, 0), (2, SeccompCmpOp::Ne, tcp)];
                rules.push(rule(&other)?);
            }
        }
    }
    Ok(rules)
}

fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> seccompiler::Result<SeccompRule> {
    let conditions: Result<Vec<_>, _> = conditions
        .iter()
        .map(|(arg, op, value)| SeccompCondition::new(*arg, SeccompCmpArgLen::Dword, op.clone(), *value))
        .collect();
    Ok(SeccompRule::new(conditions?)?)
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> seccompiler::Result<BpfProgram> {
    #[cfg(target_arch = "x86_64")]
    let rules =
        rules.into_iter().flat_map(|(call, rules)| [(call, rules.clone()), (call | TWIN, rules)]).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?;
    Ok(filter.try_into()?)
}
