use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use access::control::Done;
use access::{Admission, By, Named};

fn tree() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path());
    root.keep_dir(DIRECTORY).unwrap();
    (directory, root)
}

fn config(line: &str) -> Config {
    use settings::Product as _;
    Config::from_cmdline(line).0
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn request(nqn: &str, address: &str) -> Uevent {
    let datagram = format!(
        "change@/devices/virtual/nvmet/nvmet\0ACTION=change\0DEVPATH=/devices/virtual/nvmet/nvmet\0SUBSYSTEM=nvmet\0\
         HOSTNQN={nqn}\0HOST_TRADDR={address}\0NVMET_REQUEST=connect\0SUBSYSNQN=nqn.s\0"
    );
    Uevent::parse(datagram.as_bytes()).unwrap()
}

/// The state in the file.
fn kept(root: &Root) -> State {
    State::parse(&root.read_bytes(FILE).unwrap()).unwrap()
}

fn done(answer: Answer) -> Done {
    match answer {
        Answer::Done(done) => done,
        Answer::Refused { error } => panic!("{error}"),
    }
}

#[test]
fn a_request_is_kept_and_its_answer_is_in_the_file_before_it_is_confirmed() {
    let (_directory, root) = tree();
    let mut keeper = Keeper::start(root.clone(), &config("diskomator.access=ask diskomator.allow=nqn.a:ro"), at(5));
    keeper.act(at(5));
    assert_eq!(kept(&root).admitted().len(), 1);
    keeper.take_uevent(&request("nqn.b", "192.0.2.1"), at(10));
    keeper.take_uevent(&request("nqn.c", "fe80::1%eth0"), at(10));
    for (nqn, address) in [("", "192.0.2.1"), ("a/b", "192.0.2.1"), ("nqn.d", ""), ("nqn.d", "1.2.3")] {
        keeper.take_uevent(&request(nqn, address), at(10));
    }
    keeper.act(at(10));
    let asking: Vec<_> = kept(&root).requests().iter().map(|request| request.address.to_string()).collect();
    assert_eq!(asking, ["192.0.2.1", "fe80::1"]);
    // Further attempts change the file once a second at most.
    keeper.take_uevent(&request("nqn.b", "192.0.2.1"), at(10));
    assert!(keeper.act(at(10)).is_some());
    assert_eq!(kept(&root).requests()[0].tries, 1);
    keeper.act(at(11));
    assert_eq!(kept(&root).requests()[0].tries, 2);
    let admitted = done(keeper.answer(br#"{"command":"allow","host":1}"#, at(11))).admitted.unwrap();
    assert_eq!((admitted.nqn.as_ref(), admitted.by), ("nqn.b", By::Command));
    assert_eq!(kept(&root).admitted().len(), 2);

    // After a kill the next run goes on with the file, and not with the settings.
    done(keeper.answer(br#"{"command":"deny","host":"nqn.a"}"#, at(12)));
    drop(keeper);
    let mut next = Keeper::start(root.clone(), &config("diskomator.access=ask diskomator.allow=nqn.a:ro"), at(13));
    next.act(at(13));
    assert_eq!((next.state.admitted().len(), next.state.denied().len()), (1, 1));
    next.take_uevent(&request("nqn.e", "192.0.2.1"), at(13));
    assert_eq!(next.state.requests().last().unwrap().number, 3);
    next.act(at(72));
    assert!(kept(&root).denied().is_empty(), "the denial is over");
}

#[test]
fn an_answer_that_cannot_be_kept_has_no_effect() {
    let (_directory, root) = tree();
    let mut keeper = Keeper::start(root.clone(), &config("diskomator.access=ask"), at(5));
    keeper.act(at(5));
    // A directory in the place of the new file.
    root.make_dir("run/access/hosts.new").unwrap();
    let answer = keeper.answer(br#"{"command":"allow","host":"nqn.a"}"#, at(6));
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    assert!(keeper.state.admitted().is_empty());
    root.remove_dir("run/access/hosts.new").unwrap();
    done(keeper.answer(br#"{"command":"allow","host":"nqn.a"}"#, at(7)));
    assert_eq!(kept(&root), keeper.state);
}

#[test]
fn a_broken_file_admits_those_of_the_settings_alone() {
    let (_directory, root) = tree();
    root.keep(FILE, "{\"everyone\":true").unwrap();
    let mut keeper = Keeper::start(root.clone(), &config("diskomator.access=ask diskomator.allow=nqn.a"), at(500));
    keeper.act(at(500));
    assert_eq!((kept(&root).everyone(), kept(&root).admitted().len()), (false, 1));
    keeper.take_uevent(&request("nqn.b", "192.0.2.1"), at(500));
    assert_eq!(keeper.state.requests()[0].number, 501);
}

#[test]
fn each_mode_has_its_file() {
    for (word, everyone, admitted, asking) in [("open", true, 1, 0), ("ask", false, 1, 1), ("paired", false, 0, 0)] {
        let (_directory, root) = tree();
        let line = format!("diskomator.access={word} diskomator.allow=nqn.a");
        let mut keeper = Keeper::start(root.clone(), &config(&line), at(5));
        keeper.take_uevent(&request("nqn.b", "192.0.2.1"), at(5));
        keeper.act(at(5));
        let state = kept(&root);
        assert_eq!((state.everyone(), state.admitted().len(), state.requests().len()), (everyone, admitted, asking));
        let is_open = Admission::of(config(&line).access, Some(&state)) == Admission::Everyone;
        assert_eq!(is_open, everyone, "{word}");
    }
    // A machine in mode open can be closed, and asks from then on.
    let (_directory, root) = tree();
    let mut keeper = Keeper::start(root.clone(), &config("diskomator.access=open"), at(5));
    done(keeper.answer(br#"{"command":"close"}"#, at(6)));
    keeper.take_uevent(&request("nqn.b", "192.0.2.1"), at(7));
    assert_eq!(keeper.state.requests().len(), 1);
    assert!(!kept(&root).everyone());
}

/// Serves clients until one sends `open`, as [`serve`] does.
fn server(root: &Root) -> thread::JoinHandle<Clients> {
    let mut clients = Clients::listen(root).unwrap();
    let root = root.clone();
    thread::spawn(move || {
        let mut events = EventLoop::<Source>::new().unwrap();
        events.register_descriptor(Source::Control, clients.listener()).unwrap();
        let mut keeper = Keeper::start(root, &config("diskomator.access=ask"), at(5));
        loop {
            for event in events.wait(None).unwrap() {
                match event {
                    Event::Ready { source: Source::Control, .. } => take_client(&mut events, &mut clients).unwrap(),
                    Event::Ready { source: source @ Source::Client(place), .. }
                        if clients.serve(place, |line| keeper.answer(line, at(5))) =>
                    {
                        events.again(source);
                    }
                    _ => {}
                }
            }
            if keeper.state.everyone() {
                return clients;
            }
        }
    })
}

#[test]
fn a_client_that_is_silent_or_reads_nothing_holds_up_nobody() {
    let (_directory, root) = tree();
    // A run that was killed leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(root.path(CONTROL)).unwrap());
    let server = server(&root);
    assert!(matches!(Clients::listen(&root), Err(SocketError::Runs)));
    let connect = || UnixStream::connect(root.path(CONTROL)).unwrap();

    let mut silent: Vec<UnixStream> = (0..40).map(|_| connect()).collect();
    // Ends as soon as its answers do not fit any more.
    let mut greedy = connect();
    greedy.set_write_timeout(Some(at(10))).unwrap();
    let lines = b"{\"command\":\"list\"}\n".repeat(200);
    assert!((0..10_000).any(|_| greedy.write_all(&lines).is_err()), "it is served for ever");
    let mut babbler = connect();
    babbler.write_all(&[b'x'; 5000]).unwrap();
    let mut answer = String::new();
    BufReader::new(&babbler).read_line(&mut answer).unwrap();
    assert!(answer.contains("longer than 4096 bytes"), "{answer}");

    let allow =
        Command::Allow { host: Named::text("nqn.a").unwrap().into(), address: None, read_only: true, by: By::Command };
    assert!(answer::ask(&root, &allow).unwrap().admitted.unwrap().read_only);
    let error = answer::ask(&root, &Command::Forget { host: Named::Number(9).into() }).unwrap_err();
    assert!(error.to_string().contains("request 9"), "{error}");

    // A line that comes in pieces, then two at once.
    let mut slow = connect();
    for piece in [&b"{\"comm"[..], b"and\":\"list\"}\n", b"{}\n{\"command\":\"list\"}\n"] {
        slow.write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    let mut answers = BufReader::new(&slow).lines().map(Result::unwrap);
    assert!(answers.next().unwrap().contains("nqn.a"));
    assert!(answers.next().unwrap().contains("\"error\""));
    assert!(answers.next().unwrap().contains("nqn.a"));

    // Of the silent ones, the last few are still there, and the first are not.
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    assert!(answer::ask(&root, &Command::Open {}).unwrap().everyone);
    server.join().unwrap().close(&root);
    assert!(matches!(answer::ask(&root, &Command::List {}), Err(answer::AskError::NoDaemon(_))));
    assert!(root.exists(FILE) && !root.exists(CONTROL));
}

#[test]
fn hosts_of_the_settings_must_prove_keys_only_if_somebody_can_have_them() {
    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for (mode, is_given, admitted, keyed) in
        [("ask", false, 1, 0), ("ask", true, 1, 1), ("paired", false, 0, 0), ("paired", true, 1, 1)]
    {
        let (directory, root) = tree();
        let line = format!("diskomator.access={mode} diskomator.allow=nqn.a");
        for folder in ["proc", ".extra/global_credentials"] {
            std::fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        std::fs::write(directory.path().join("proc/cmdline"), &line).unwrap();
        if is_given {
            root.keep(".extra/global_credentials/diskomator.secret.cred", SECRET).unwrap();
        }
        let config = kernel::given::read::<Config>(&root).0.config;
        let mut keeper = Keeper::start(root.clone(), &config, at(5));
        keeper.act(at(5));
        let state = kept(&root);
        assert_eq!((state.admitted().len(), state.keyed().len()), (admitted, keyed), "{mode} {is_given}");
        assert!(!root.read(FILE).unwrap().contains("AAEC"));
        // A key is for this host alone, and the answer says nothing secret.
        let answer = keeper.answer(br#"{"command":"key","host":"nqn.b"}"#, at(6));
        let said = format!("{answer:?}");
        assert_eq!(done(answer).admitted.unwrap().by, By::Key);
        assert!(!said.contains("DHHC") && !said.contains("AAEC"), "{said}");
        assert_eq!(kept(&root).keyed().len(), keyed + 1);
        // The next run has the same.
        drop(keeper);
        let former = secret::read(&root).unwrap().unwrap();
        let next = Keeper::start(root.clone(), &config, at(7));
        assert_eq!(next.state.keyed().len(), keyed + 1);
        assert_eq!(secret::read(&root).unwrap().unwrap().secret.expose(), former.secret.expose());
    }
}

#[test]
fn without_a_secret_nobody_is_admitted_by_a_key() {
    let (_directory, root) = tree();
    // A directory in the place of the file.
    root.make_dir(secret::FILE).unwrap();
    let mut keeper = Keeper::start(root.clone(), &config("diskomator.access=ask"), at(5));
    let answer = keeper.answer(br#"{"command":"key","host":"nqn.b"}"#, at(6));
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    assert!(keeper.state.admitted().is_empty());
}
