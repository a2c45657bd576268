//! The rules by which plans are tested are those of the kernel in the image.

use std::time::Duration;

use e2e::{Boot, Bus, Failure, Lab};

const SOON: Duration = Duration::from_secs(30);

/// The shell's words for each of the kernel's answers (musl's words).
fn words_for(answer: &str) -> &str {
    match answer {
        "EEXIST" => "File exists",
        "EINVAL" => "Invalid argument",
        "EBUSY" => "Resource busy",
        "EACCES" => "Permission denied",
        "ENOENT" => "No such file or directory",
        "ENOTEMPTY" => "Directory not empty",
        "EADDRINUSE" => "Address in use",
        _ => "",
    }
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_kernel_s_target_answers_as_the_stand_in_for_it_does() -> Result<(), Failure> {
    Lab::run("the_kernel_s_target_answers_as_the_stand_in_for_it_does", |lab| {
        let disk = lab.disk(Bus::VirtioBlk, "RULES-8001", 64)?;
        let nvme = lab.disk(Bus::Nvme, "RULES-8002", 64)?;
        // Nothing is exported, so that the controller is free.
        let machine = lab.appliance().boot(Boot::Kernel).disk(&disk).disk(&nvme).word("diskomator.export=none");
        let machine = lab.boot(machine.debug())?;
        machine.shell("cd /sys/kernel/config/nvmet")?;
        let mut wrong = Vec::new();
        for rule in
            include_str!("../../../diskomator/nvmet/src/rules.txt").lines().filter(|line| !line.starts_with('#'))
        {
            let (answer, command) = rule.split_once(' ').unwrap_or_default();
            let command = command.replace("DEVICE", "/dev/vda").replace("CONTROLLER", "/dev/nvme0");
            let words: Vec<&str> = command.split_whitespace().collect();
            let line = match words[..] {
                // The only redirection that never makes a file, which configfs would refuse in its own way.
                ["write", path, value] => format!("echo -n {value} | dd of={path} conv=notrunc status=none"),
                ["ln", target, path] => format!("ln -sn \"$PWD\"/{target} {path}"),
                _ => command.trim().to_owned(),
            };
            let output = machine.try_shell(&format!("{line} 2>&1"), SOON)?;
            let right = if answer == "ok" {
                output.status == 0
            } else {
                output.stdout.contains(words_for(answer)) && output.status != 0
            };
            if !right {
                wrong.push(format!("{rule}: the kernel says {:?}", output.stdout.trim()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}
