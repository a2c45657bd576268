//! The image with more words built in, boot loaders that start it, and who hands it out over HTTP.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths::{USUAL_RELEASE, cmdline, image_file, initiator_file, project};
use crate::program::run;
use crate::{Error, Lab, Result, Stick};

impl Lab {
    /// The image as a build with `BR2_PACKAGE_DISKOMATOR_CMDLINE=words` makes it.
    pub fn variant(&self, words: &str) -> Result<PathBuf> {
        let dir = self.folder("variant")?;
        let image = image_file("diskomator.efi")?;
        let line = format!("{} {words}", cmdline()?);
        let own = dir.join("root/usr/lib/image");
        fs::create_dir_all(&own).map_err(|source| Error::File { verb: "create", path: own.clone(), source })?;
        write(&own.join("cmdline"), format!("{line}\n").as_bytes())?;
        // Of two archives, the files of the later one stay.
        let script = "objcopy -O binary --only-section=.initrd \"$1\" initrd
            objcopy -O binary --only-section=.osrel \"$1\" osrel
            truncate -s %4 initrd
            cd root && find usr | LC_ALL=C sort | cpio --quiet -o -H newc -R +0:+0 >>../initrd";
        run(Command::new("sh").current_dir(&dir).args(["-euc", script, "sh"]).arg(&image))?;
        let efi = dir.join("diskomator.efi");
        run(Command::new(project().join("output/debian/host/bin/ukify"))
            .arg("build")
            .arg(format!("--stub={}", image_file("linuxx64.efi.stub")?.display()))
            .arg(format!("--linux={}", image_file("bzImage")?.display()))
            .arg(format!("--initrd={}", dir.join("initrd").display()))
            .arg(format!("--os-release=@{}", dir.join("osrel").display()))
            .arg(format!("--cmdline={line}"))
            .arg(format!("--output={}", efi.display())))?;
        Ok(efi)
    }

    /// A stick that boots Debian's boot loader with this name (`scripts/initiator`), to put its configuration on.
    pub fn boot_loader(&self, name: &str) -> Result<Stick> {
        self.stick_that_boots(&boot_loader_file(name)?)
    }

    /// A stick that boots an EFI program, in the image's place.
    pub fn stick_that_boots(&self, efi: &Path) -> Result<Stick> {
        let content = fs::read(efi).map_err(|source| Error::File { verb: "read", path: efi.to_owned(), source })?;
        let stick = self.stick("loader.raw")?;
        stick.add("EFI/BOOT/BOOTX64.EFI", &content)?;
        Ok(stick)
    }

    /// An archive as a boot loader may hand it over: another system's root file system, with other files and
    /// directories where ours has files.
    pub fn foreign_initrd(&self) -> Result<PathBuf> {
        let dir = self.folder("foreign")?;
        let script = "mkdir -p root && cd root
            mkdir -p init/x usr/sbin/diskomator/x etc/init.d root/.ssh .extra/credentials
            touch init/x/y usr/sbin/diskomator/x/y
            ln -s /tmp bin
            echo 'root::0:0:foreign:/:/bin/sh' >etc/passwd
            ln etc/passwd etc/inittab
            ln etc/passwd etc/init.d/rcS
            echo foreign >root/.ssh/authorized_keys
            echo debug >.extra/credentials/diskomator.log.cred
            find . | LC_ALL=C sort | cpio --quiet -o -H newc -R +0:+0 >../foreign.cpio";
        run(Command::new("sh").current_dir(&dir).args(["-euc", script]))?;
        Ok(dir.join("foreign.cpio"))
    }

    /// Has the other machine hand files out over HTTP, each as `http://192.168.77.1/NAME`; once for each lab.
    pub fn serve(&self, files: &[(&str, &Path)]) -> Result<()> {
        let dir = self.folder("http")?;
        for (name, file) in files {
            let path = (*file).to_owned();
            fs::copy(file, dir.join(name)).map_err(|source| Error::File { verb: "copy", path, source })?;
        }
        let archive = dir.with_extension("tar");
        run(Command::new("tar").args(["--format=ustar", "-C"]).arg(&dir).arg("-cf").arg(&archive).arg("."))?;
        let other = self.initiator();
        other.attach(&archive)?;
        other.run(
            "until test -b /dev/vdb; do sleep 0.1; done; mkdir /run/http; busybox tar -x -C /run/http -f /dev/vdb; \
             busybox httpd -p 80 -h /run/http </dev/null >/dev/null 2>&1",
        )?;
        Ok(())
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.disks()?.join(name);
        fs::create_dir_all(&dir).map_err(|source| Error::File { verb: "create", path: dir.clone(), source })?;
        Ok(dir)
    }
}

/// Debian's boot loader with this name.
pub fn boot_loader_file(name: &str) -> Result<PathBuf> {
    initiator_file(USUAL_RELEASE, &format!("loaders/{name}"))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).map_err(|source| Error::File { verb: "write", path: path.to_owned(), source })
}
