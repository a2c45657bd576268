//! The machine's model and processor, for people.

use tui::screen::Screen;

use crate::root::Root;

/// The machine's vendor and model, from its firmware. A placeholder that the maker
/// left unchanged is no name.
pub fn model(root: &Root) -> Option<String> {
    const UNNAMED: [&str; 5] =
        ["To Be Filled By O.E.M.", "System manufacturer", "System Product Name", "Default string", "Not Specified"];
    let value = |file: &str| {
        let text = root.read(format!("sys/class/dmi/id/{file}")).ok()?;
        (!text.is_empty() && !UNNAMED.contains(&text.as_str())).then_some(text)
    };
    let board = || value("board_name");
    match (value("sys_vendor").or_else(|| value("board_vendor")), value("product_name").or_else(board)) {
        (Some(vendor), Some(name)) if name.starts_with(&vendor) => Some(name),
        (Some(vendor), Some(name)) => Some(format!("{vendor} {name}")),
        (vendor, name) => name.or(vendor),
    }
}

/// The processor's name.
pub fn processor(root: &Root) -> Option<String> {
    let text = root.read("proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    // Some pad it with spaces.
    let (_, name) = line.split_once(':')?;
    Some(name.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// How much memory programs can still have, in bytes.
pub fn memory_free(root: &Root) -> Option<u64> {
    let text = root.read("proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// The kind of console (`vtconsole`) that the kernel draws the virtual terminals on.
pub fn screen(root: &Root) -> Screen {
    let directory = "sys/class/vtconsole";
    let read = |console: &str, file: &str| root.read(format!("{directory}/{console}/{file}")).unwrap_or_default();
    let names = root.list(directory).unwrap_or_default();
    let consoles: Vec<_> = names.iter().map(|console| (read(console, "name"), read(console, "bind"))).collect();
    Screen::of(consoles.iter().map(|(name, bind)| (name.as_str(), bind.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_is_what_the_kernel_says_it_draws_on() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        let put = |path: &str, text: &str| {
            let path = root.path("sys/class/vtconsole").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(screen(&root), Screen::None);
        put("vtcon0/name", "(S) dummy device\n");
        put("vtcon0/bind", "1\n");
        assert_eq!(screen(&root), Screen::None);
        put("vtcon0/bind", "0\n");
        put("vtcon1/name", "(M) frame buffer device\n");
        put("vtcon1/bind", "1\n");
        assert_eq!(screen(&root), Screen::FrameBuffer);
    }

    #[test]
    fn a_machine_is_called_what_its_firmware_says_if_that_is_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        let put = |path: &str, text: &str| {
            let path = root.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!((model(&root), processor(&root), memory_free(&root)), (None, None, None));
        put("sys/class/dmi/id/sys_vendor", "To Be Filled By O.E.M.\n");
        put("sys/class/dmi/id/board_vendor", "ASRock\n");
        put("sys/class/dmi/id/board_name", "H97M\n");
        assert_eq!(model(&root).as_deref(), Some("ASRock H97M"));
        put("sys/class/dmi/id/sys_vendor", "HP\n");
        put("sys/class/dmi/id/product_name", "HP ProDesk 600\n");
        assert_eq!(model(&root).as_deref(), Some("HP ProDesk 600"));
        put("proc/cpuinfo", "processor\t: 0\nmodel name\t: Intel(R)  Celeron(R) CPU\n");
        assert_eq!(processor(&root).as_deref(), Some("Intel(R) Celeron(R) CPU"));
        put("proc/meminfo", "MemTotal:  9 kB\nMemAvailable:     12 kB\n");
        assert_eq!(memory_free(&root), Some(12 * 1024));
    }
}
