//! Documents generated from the command line definition: completion scripts and man pages.

use std::io::{self, Write};
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;

use super::assets::write_files;
use crate::cli::Cli;

/// Name of the program.
const PROGRAM: &str = "redis-script-exporter";

/// Prints the completion script of a shell.
///
/// # Errors
/// Returns an error if writing to `out` fails.
pub(crate) fn print_completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // Generated in memory because the generator panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::documented(), PROGRAM, &mut script);
    if shell == Shell::Bash {
        // In one of two places, clap_complete 4.6 treats the dashes in the program's name as separators of subcommands.
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
/// Returns an error if writing to `out` fails.
pub(crate) fn print_man_page(out: &mut impl Write) -> io::Result<()> {
    let (_, page) = man_pages()?.into_iter().next().unwrap_or_default();
    out.write_all(&page)?;
    out.flush()
}

/// Writes the man pages of the program and its subcommands to `folder`, which is created if missing, and prints the path of
/// each file.
///
/// # Errors
/// Returns an error if writing a file or writing to `out` fails. Errors of files contain the path.
pub(crate) fn write_man_pages(folder: &Path, out: &mut impl Write) -> io::Result<()> {
    write_files(folder, man_pages()?, out)
}

/// Returns the file name and content of each page, starting with the page of the program.
fn man_pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::documented().name(PROGRAM);
    command.build();
    let subcommands: Vec<clap::Command> = command
        .get_subcommands()
        .filter(|subcommand| subcommand.get_name() != "help")
        .map(|subcommand| {
            let name = format!("{PROGRAM}-{}", subcommand.get_name());
            let usage = format!("{PROGRAM} {}", subcommand.get_name());
            subcommand.clone().name(name).bin_name(usage)
        })
        .collect();
    std::iter::once(command)
        .chain(subcommands)
        .map(|command| {
            let is_examples =
                command.get_after_help().is_some_and(|text| text.to_string().starts_with("Examples"));
            let man = Man::new(command)
                .date(env!("BUILD_DATE"))
                .source(concat!("redis-script-exporter ", env!("CARGO_PKG_VERSION")))
                .manual("User Commands");
            let mut page = Vec::new();
            man.render(&mut page)?;
            let heading = if is_examples { ".SH EXAMPLES\n.nf\n" } else { ".SH \"EXIT STATUS\"\n" };
            let page =
                String::from_utf8_lossy(&page).replace(".SH EXTRA\n", heading).replace("\nExamples:\n", "\n");
            Ok((man.get_filename(), page.into_bytes()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let printed = String::from_utf8(out).unwrap();
        let mut page = Vec::new();
        print_man_page(&mut page).unwrap();
        assert_eq!(fs::read(printed.lines().next().unwrap()).unwrap(), page);
        let main = String::from_utf8(page).unwrap();
        for subcommand in Cli::documented().get_subcommands() {
            let path = folder.join(format!("{PROGRAM}-{}.1", subcommand.get_name()));
            assert!(path.is_file(), "{}", path.display());
            // The page of the program refers to the page of the subcommand.
            let reference = format!("{PROGRAM}-{}(1)", subcommand.get_name()).replace('-', "\\-");
            assert!(main.contains(&reference), "{reference} in {main}");
        }
        let check = fs::read_to_string(folder.join(format!("{PROGRAM}-check.1"))).unwrap();
        assert!(check.contains("REDIS_PASSWORD_FILE") && check.contains("tls\\-ca\\-file"), "{check}");
        assert!(!check.contains("web.listen"), "{check}");
        assert!(main.contains("\n.SH EXAMPLES\n.nf\n"), "{main}");
        assert!(check.contains(".SH \"EXIT STATUS\"") && !check.contains("EXTRA"), "{check}");
        let title = main.lines().find(|line| line.starts_with(".TH")).unwrap();
        assert!(title.contains(env!("BUILD_DATE")) && title.contains("\"User Commands\""), "{title}");
    }
}
