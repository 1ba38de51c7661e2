//! Documents that are made of the definition of the command line: completion scripts and man pages.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;

/// Name of the program, as users type it.
const PROGRAM: &str = "redis-script-exporter";

/// Prints the completion script of a shell.
///
/// # Errors
/// Those of `out`.
pub(crate) fn print_completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // Into memory first: the generator panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::documented(), PROGRAM, &mut script);
    if shell == Shell::Bash {
        // clap_complete 4.6 takes the dashes of the program's name for subcommands in one of two places.
        let text = String::from_utf8_lossy(&script);
        let text = text.replace("redis__subcmd__script__subcmd__exporter", "redis__script__exporter");
        script = text.into_bytes();
    }
    out.write_all(&script)?;
    out.flush()
}

/// Prints the man page of the program.
///
/// # Errors
/// Those of `out`.
pub(crate) fn print_man_page(out: &mut impl Write) -> io::Result<()> {
    let (_, page) = man_pages()?.into_iter().next().unwrap_or_default();
    out.write_all(&page)?;
    out.flush()
}

/// Writes the man pages of the program and its subcommands into `folder`, which is made if it is not there, and tells
/// each file's path.
///
/// # Errors
/// Those of the file system, with the path, and those of `out`.
pub(crate) fn write_man_pages(folder: &Path, out: &mut impl Write) -> io::Result<()> {
    let at = |path: &Path, error: &io::Error| {
        // Not as it is: a failure to write a file must not pass for a closed pipe.
        io::Error::other(format!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    for (name, page) in man_pages()? {
        let path = folder.join(name);
        fs::write(&path, page).map_err(|error| at(&path, &error))?;
        writeln!(out, "{}", path.display())?;
    }
    out.flush()
}

/// Name of the file and text of each page; the program's own is the first.
fn man_pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::documented().name(PROGRAM);
    command.build();
    let subcommands: Vec<clap::Command> = command
        .get_subcommands()
        .map(|subcommand| {
            let name = format!("{PROGRAM}-{}", subcommand.get_name());
            let usage = format!("{PROGRAM} {}", subcommand.get_name());
            subcommand.clone().name(name).bin_name(usage)
        })
        .collect();
    std::iter::once(command)
        .chain(subcommands)
        .map(|command| {
            let man = Man::new(command).source(concat!("redis-script-exporter ", env!("CARGO_PKG_VERSION")));
            let mut page = Vec::new();
            man.render(&mut page)?;
            Ok((man.get_filename(), page))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_its_script() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut out = Vec::new();
            print_completions(shell, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            assert!(script.contains("redis.tls-ca-file") && script.contains("healthcheck"), "{shell}");
        }
    }

    #[test]
    fn there_is_a_page_for_the_program_and_each_subcommand() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("man1");
        let mut out = Vec::new();
        write_man_pages(&folder, &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        let mut page = Vec::new();
        print_man_page(&mut page).unwrap();
        assert_eq!(fs::read(told.lines().next().unwrap()).unwrap(), page);
        let main = String::from_utf8(page).unwrap();
        for subcommand in Cli::documented().get_subcommands() {
            let path = folder.join(format!("{PROGRAM}-{}.1", subcommand.get_name()));
            assert!(path.is_file(), "{}", path.display());
            // The program's own page refers to it.
            let reference = format!("{PROGRAM}-{}(1)", subcommand.get_name()).replace('-', "\\-");
            assert!(main.contains(&reference), "{reference} in {main}");
        }
        let check = fs::read_to_string(folder.join(format!("{PROGRAM}-check.1"))).unwrap();
        assert!(check.contains("REDIS_PASSWORD_FILE") && check.contains("tls\\-ca\\-file"), "{check}");
        assert!(!check.contains("web.listen"), "{check}");
    }
}
