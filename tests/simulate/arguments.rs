//! What `cargo test` passes on: the options of the usual harness, of which those that choose tests are
//! followed and the others left alone.

/// Whether the one test of this target is to be run. `--list` names it.
pub(crate) fn wanted(name: &str) -> bool {
    const WITH_VALUE: [&str; 6] = [
        "--test-threads",
        "--format",
        "--color",
        "--logfile",
        "--shuffle-seed",
        "-Z",
    ];
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let (mut exact, mut list, mut ignored) = (false, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--exact" => exact = true,
            "--list" => list = true,
            "--ignored" => ignored = true,
            "--skip" => skipped.extend(arguments.next()),
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with('-') => {}
            _ => filters.push(argument),
        }
    }
    let fits = |filter: &String| match exact {
        true => filter == name,
        false => name.contains(filter.as_str()),
    };
    let chosen =
        (filters.is_empty() || filters.iter().any(fits)) && !skipped.iter().any(fits) && !ignored;
    if list && chosen {
        println!("{name}: test");
    } else if !chosen && !list {
        println!("running 0 tests, 1 filtered out");
    }
    chosen && !list
}
