use super::*;

/// Whichever flag is given: a default that is repeated by hand would be the one that is forgotten.
#[test]
fn every_flag_of_hosts_asks_and_none_does_not() {
    let command = HostsArgs::augment_args(clap::Command::new(""));
    assert!(!HostsArgs::unasked().is_asked());
    for argument in command.get_arguments() {
        let flag = format!("--{}", argument.get_long().expect("a flag"));
        let parsed = ["7", "7s", "7%", "7MiB"].into_iter().find_map(|value| {
            let parsed = command.clone().try_get_matches_from(["", &flag, value]);
            HostsArgs::from_arg_matches(&parsed.ok()?).ok()
        });
        assert!(parsed.expect("one of these is a value").is_asked(), "{flag}");
    }
}
