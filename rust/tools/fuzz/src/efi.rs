//! Partition tables of disks, and variables of firmware.

use ::efi::{DEFAULT_LOADER, Firmware, LoadOption, NoPlan, Table, variable};

use crate::input::Input;

/// A disk's first blocks, whose EFI system partitions get a plan from variables; both are of the same bytes.
pub fn efi(data: &[u8]) {
    let table = Table::parse(data, data.get(512..).unwrap_or_default());
    let table = table.or_else(|_| Table::parse(&[], data));
    let esps = table.map(|table| table.esps(data.get(1024..).unwrap_or(data))).unwrap_or_default();
    if let Some(option) = LoadOption::parse(data) {
        let bytes = option.to_bytes().unwrap();
        assert_eq!(LoadOption::parse(&bytes).as_ref(), Some(&option));
    }
    let mut input = Input::new(data);
    let mut variables = Vec::new();
    while let Some(what) = input.next() {
        let content: Vec<u8> = (0..input.byte()).map(|_| input.byte()).collect();
        let name = match what % 8 {
            0 => "BootOrder".to_owned(),
            1 => "BootCurrent".to_owned(),
            2 => "BootNext".to_owned(),
            _ => variable((what / 8).into()),
        };
        variables.push((name, content));
    }
    let firmware = Firmware::new(variables.iter().map(|(name, content)| (name.as_str(), content.as_slice())));
    assert!(!firmware.after().to_string().contains(char::is_control));
    match firmware.plan(&esps, DEFAULT_LOADER) {
        Ok(plan) => {
            assert!(esps.contains(&plan.partition) && !plan.entry.to_string().contains(char::is_control));
            match plan.new {
                Some(new) => {
                    assert!(!firmware.order.contains(&plan.entry.number), "an entry of the order is lost");
                    assert!(LoadOption::parse(&new).unwrap().path.is_on(&plan.partition));
                }
                None => assert!(firmware.entries.contains_key(&plan.entry.number)),
            }
        }
        Err(NoPlan::NoPartition) => assert_eq!(esps, []),
        Err(NoPlan::NoSignature | NoPlan::NoNumber) => {}
    }
}
