use std::{mem::offset_of, net::TcpListener};

use super::{
    Given, IpNet, ProtectionError, Security, check, hops, md5,
    tcp_ao::{self, AddKey, DeleteKey, Info},
};
use crate::bgp::settings::{AoAlgorithm, AoKey, Secret};

#[test]
fn structures_lie_in_memory_as_the_kernel_reads_them() {
    // As a C compiler lays out linux/tcp.h.
    let md5 = [
        offset_of!(md5::Md5Signature, flags),
        offset_of!(md5::Md5Signature, prefix_length),
        offset_of!(md5::Md5Signature, key_length),
        offset_of!(md5::Md5Signature, interface),
        offset_of!(md5::Md5Signature, key),
        size_of::<md5::Md5Signature>(),
    ];
    assert_eq!(md5, [128, 129, 130, 132, 136, 216]);
    let add = [
        offset_of!(AddKey, algorithm),
        offset_of!(AddKey, interface),
        offset_of!(AddKey, flags),
        offset_of!(AddKey, reserved),
        offset_of!(AddKey, prefix_length),
        offset_of!(AddKey, send_id),
        offset_of!(AddKey, receive_id),
        offset_of!(AddKey, code_length),
        offset_of!(AddKey, key_flags),
        offset_of!(AddKey, key_length),
        offset_of!(AddKey, key),
        size_of::<AddKey>(),
    ];
    assert_eq!(
        add,
        [128, 192, 196, 200, 202, 203, 204, 205, 206, 207, 208, 288]
    );
    let delete = [
        offset_of!(DeleteKey, interface),
        offset_of!(DeleteKey, flags),
        offset_of!(DeleteKey, reserved),
        offset_of!(DeleteKey, prefix_length),
        offset_of!(DeleteKey, current_key),
        offset_of!(DeleteKey, next_key),
        offset_of!(DeleteKey, key_flags),
        size_of::<DeleteKey>(),
    ];
    assert_eq!(delete, [128, 132, 136, 138, 141, 142, 143, 144]);
    let info = [
        offset_of!(Info, reserved),
        offset_of!(Info, current_key),
        offset_of!(Info, next_key),
        offset_of!(Info, packets),
        size_of::<Info>(),
    ];
    assert_eq!(info, [4, 6, 7, 8, 48]);
}

#[test]
fn a_tcp_ao_key_says_what_the_kernel_documents() {
    let key = ao_key(7, AoAlgorithm::Aes128Cmac);
    let option = tcp_ao::add_key("10.1.10.0/24".parse().unwrap(), &key, true);
    assert_eq!(&option.algorithm[..13], b"cmac(aes128)\0");
    assert_eq!((option.send_id, option.receive_id), (7, 7));
    assert_eq!((option.prefix_length, option.code_length), (24, 12));
    assert_eq!(&option.key[..usize::from(option.key_length)], b"sesame");
    // The two lowest bits on a little-endian machine.
    assert_eq!(
        option.flags.to_ne_bytes()[0],
        if cfg!(target_endian = "little") {
            3
        } else {
            0xc0
        }
    );
    let sha = tcp_ao::add_key(
        "::/0".parse().unwrap(),
        &ao_key(0, AoAlgorithm::HmacSha1),
        false,
    );
    assert_eq!(&sha.algorithm[..11], b"hmac(sha1)\0");
    assert_eq!((sha.prefix_length, sha.flags), (0, 0));
}

#[test]
fn tcp_ao_works_or_is_refused_with_the_remedy() {
    let security = Security {
        tcp_ao: vec![
            ao_key(1, AoAlgorithm::HmacSha1),
            ao_key(2, AoAlgorithm::Aes128Cmac),
        ],
        ..Security::default()
    };
    for peer in ["10.1.10.4", "fd00::4"] {
        match check(&security, peer.parse().unwrap()) {
            Ok(()) => {}
            Err(error @ ProtectionError::Unsupported(..)) => {
                let text = error.to_string();
                assert!(text.contains("CONFIG_TCP_AO"), "{text}");
                assert!(text.contains("no connection without it"), "{text}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn the_kernel_takes_passwords_for_addresses_and_prefixes_of_both_families() {
    for (address, prefixes) in [
        ("127.0.0.1:0", ["10.1.10.4/32", "10.1.0.0/16", "0.0.0.0/0"]),
        ("[::1]:0", ["fd00::4/128", "fd00::/64", "::/0"]),
    ] {
        let listener = TcpListener::bind(address).unwrap();
        let mut given = Given::default();
        let expected = prefixes
            .iter()
            .enumerate()
            .map(|(index, prefix)| (net(prefix), with_password(&format!("password {index}"))))
            .collect();
        let errors = given.update(&listener, &expected);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(given.md5.len(), 3);
        let errors = given.update(&listener, &Vec::new());
        assert!(errors.is_empty(), "{errors:?}");
        assert!(given.md5.is_empty());
    }
}

#[test]
fn a_password_that_a_wider_prefix_says_already_takes_no_memory() {
    let expected = vec![
        (net("10.1.0.0/16"), with_password("a")),
        (net("10.1.1.0/24"), with_password("b")),
        (net("10.1.1.1/32"), with_password("b")),
        (net("10.1.1.2/32"), with_password("a")),
        (net("10.1.2.1/32"), with_password("a")),
        (net("10.1.3.1/32"), Security::default()),
    ];
    let needed: Vec<_> = md5::needed(&expected)
        .into_iter()
        .map(|(from, _)| from.to_string())
        .collect();
    assert_eq!(needed, ["10.1.0.0/16", "10.1.1.0/24", "10.1.1.2/32"]);
}

#[test]
fn a_listener_drops_what_a_protected_peer_sends_from_too_far_away() {
    let program = hops::program(&[
        (net("10.1.0.0/16"), Some(2)),
        (net("10.1.1.1/32"), Some(1)),
        (net("10.1.1.2/32"), None),
        (net("fd00:1::/32"), Some(10)),
        (net("fd00:1:0:a::4/128"), None),
    ])
    .unwrap();
    for (from, ttl, passes) in [
        ("10.1.9.9", 254, true),
        ("10.1.9.9", 253, false),
        ("10.1.1.1", 255, true),
        ("10.1.1.1", 254, false),
        ("10.1.1.2", 1, true),
        ("10.2.1.1", 1, true),
    ] {
        let mut packet = vec![0; 20];
        packet[8] = ttl;
        packet[12..16].copy_from_slice(&from.parse::<std::net::Ipv4Addr>().unwrap().octets());
        assert_eq!(
            run(&program, &packet),
            passes,
            "{from} with {ttl} hops left"
        );
    }
    for (from, limit, passes) in [
        ("fd00:1::9", 246, true),
        ("fd00:1::9", 245, false),
        ("fd00:1:0:a::4", 1, true),
        ("fd00:1:0:a::5", 1, false),
        ("fd00:2::1", 1, true),
    ] {
        let mut packet = vec![0; 40];
        packet[7] = limit;
        packet[8..24].copy_from_slice(&from.parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(
            run(&program, &packet),
            passes,
            "{from} with {limit} hops left"
        );
    }
    assert!(hops::program(&[(net("10.0.0.0/8"), None)]).is_none());
}

/// Runs a filter over a packet, as the kernel does.
fn run(program: &[libc::sock_filter], packet: &[u8]) -> bool {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let libc::sock_filter { code, jt, jf, k } = program[at];
        let offset = k.wrapping_add(0x10_0000) as usize;
        at += 1;
        match u32::from(code) {
            0x20 => {
                let word = packet[offset..offset + 4].try_into().unwrap();
                accumulator = u32::from_be_bytes(word);
            }
            0x30 => accumulator = packet[offset].into(),
            0x54 => accumulator &= k,
            0x15 => at += usize::from(if accumulator == k { jt } else { jf }),
            0x35 => at += usize::from(if accumulator >= k { jt } else { jf }),
            0x06 => return k != 0,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn with_password(password: &str) -> Security {
    Security {
        md5_password: Some(secret(password)),
        ..Security::default()
    }
}

fn ao_key(id: u8, algorithm: AoAlgorithm) -> AoKey {
    AoKey {
        id,
        secret: secret("sesame"),
        algorithm,
    }
}

fn secret(text: &str) -> Secret {
    text.parse().unwrap()
}
