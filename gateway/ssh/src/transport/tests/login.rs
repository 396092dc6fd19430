//! Authentication in both roles, over a connection.

use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Certificate, PrivateKey};

use super::*;
use crate::host_key;
use crate::host_key::tests::{ed25519, p256};
use crate::negotiation::HostKeyAlgorithm;
use crate::userauth::client::{Answer, ClientAuth, ClientAuthError};
use crate::userauth::server::{self, Asked, AuthError, ServerAuth};
use crate::wire::Reader;

fn certified(key: &PrivateKey) -> Certificate {
    let ca = PrivateKey::from(Ed25519Keypair::from_seed(&[9; 32]));
    let mut builder = Builder::new(vec![2; 16], key.public_key(), 0, u64::MAX - 1).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.valid_principal("alice").unwrap();
    builder.sign(&ca).unwrap()
}

fn ephemeral_keys() -> [PrivateKey; 2] {
    [ed25519(), p256()]
}

/// Passes one message of the client to the server's state, and the answers of `decide` back.
fn serve(pair: &mut Pair, auth: &mut ServerAuth) -> Vec<Result<Asked, AuthError>> {
    pair.settle().unwrap();
    std::mem::take(&mut pair.server.received).iter().map(|message| auth.receive(message)).collect()
}

fn received(pair: &mut Pair) -> Vec<Vec<u8>> {
    pair.settle().unwrap();
    std::mem::take(&mut pair.client.received)
}

#[test]
fn a_client_logs_in_with_a_certificate_and_signs_what_rfc_4252_section_7_says() {
    for key in ephemeral_keys() {
        let certificate = certified(&key);
        for shown in [None, Some(&certificate)] {
            let signer = HostKeySigner::new(&key, shown).unwrap();
            let mut pair = Pair::established();
            let session_id = pair.client.transport.session_id().to_vec();
            let (mut client, request) =
                ClientAuth::start("alice", &signer, &certificate, &session_id).unwrap();
            let mut auth = ServerAuth::default();
            pair.client.transport.send(&[&request]).unwrap();
            let [Ok(Asked::Reply(accept))] = &serve(&mut pair, &mut auth)[..] else { panic!("the service") };
            let banner = server::banner(b"welcome").unwrap();
            pair.server.transport.send(&[&banner]).unwrap();
            pair.server.transport.send(&[accept]).unwrap();
            let answers: Vec<_> =
                received(&mut pair).iter().map(|message| client.receive(message).unwrap()).collect();
            let [Answer::Banner(text), Answer::Send(request)] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(text, b"welcome");
            verify_request(request, &session_id, &certificate);
            pair.client.transport.send(&[request]).unwrap();
            assert_eq!(serve(&mut pair, &mut auth), [Ok(Asked::Login(b"alice".to_vec()))]);
            pair.server.transport.send(&[server::SUCCESS]).unwrap();
            let answers = received(&mut pair);
            assert_eq!(client.receive(&answers[0]).unwrap(), Answer::LoggedIn);
        }
    }
}

/// As a server would: the signature covers the session id and the request up to it.
fn verify_request(request: &[u8], session_id: &[u8], certificate: &Certificate) {
    let mut reader = Reader::new(request);
    assert_eq!(reader.u8(), Ok(message::USERAUTH_REQUEST));
    for expected in [&b"alice"[..], b"ssh-connection", b"publickey"] {
        assert_eq!(reader.string(), Ok(expected));
    }
    assert_eq!(reader.boolean(), Ok(true));
    let algorithm = HostKeyAlgorithm::from_name(reader.text().unwrap()).unwrap();
    assert!(algorithm.is_certificate());
    let blob = reader.string().unwrap();
    assert_eq!(blob, certificate.to_bytes().unwrap());
    let covered = &request[..request.len() - reader.rest().len()];
    let signature = reader.string().unwrap();
    assert_eq!(reader.finish(), Ok(()));
    let mut signed = Vec::new();
    put_string(&mut signed, session_id).unwrap();
    signed.extend_from_slice(covered);
    host_key::verify(algorithm, blob, signature, &signed).unwrap();
    signed[8] ^= 1;
    assert!(host_key::verify(algorithm, blob, signature, &signed).is_err(), "another session id");
}

#[test]
fn a_client_says_why_it_is_not_logged_in_without_control_characters() {
    let [key, _] = ephemeral_keys();
    let (certificate, signer) = (certified(&key), HostKeySigner::new(&key, None).unwrap());
    let (mut client, _) = ClientAuth::start("alice", &signer, &certificate, b"id").unwrap();
    let early = client.receive(server::SUCCESS);
    assert!(matches!(early, Err(ClientAuthError::Unexpected(52))), "success before anything was asked");
    client.receive(&[message::SERVICE_ACCEPT, 0, 0, 0, 0]).unwrap();
    let mut failure = vec![message::USERAUTH_FAILURE];
    put_string(&mut failure, b"password,\x1b[31mkeyboard-interactive").unwrap();
    failure.push(1);
    let Err(ClientAuthError::Refused { methods, partial }) = client.receive(&failure) else {
        panic!("refused")
    };
    assert_eq!((methods.as_str(), partial), ("password,[31mkeyboard-interactive", true));
}

#[test]
fn banners_are_bounded() {
    let [key, _] = ephemeral_keys();
    let (certificate, signer) = (certified(&key), HostKeySigner::new(&key, None).unwrap());
    let (mut client, _) = ClientAuth::start("alice", &signer, &certificate, b"id").unwrap();
    let mut banner = vec![message::USERAUTH_BANNER];
    put_string(&mut banner, &[b'x'; 6000]).unwrap();
    let answers: Vec<_> = (0..3).map(|_| client.receive(&banner).is_ok()).collect();
    assert_eq!(answers, [true, true, false]);
}

#[test]
fn a_failure_names_no_method_since_none_must_not_be_named() {}

/// What a client sends as its first messages, all at once.
fn asked(messages: &[Vec<u8>]) -> Vec<Result<Asked, AuthError>> {
    let mut pair = Pair::established();
    for message in messages {
        pair.client.transport.send(&[message]).unwrap();
    }
    serve(&mut pair, &mut ServerAuth::default())
}

fn service() -> Vec<u8> {
    let mut payload = vec![message::SERVICE_REQUEST];
    put_string(&mut payload, b"ssh-userauth").unwrap();
    payload
}

fn none(login: &[u8]) -> Vec<u8> {
    let mut payload = vec![message::USERAUTH_REQUEST];
    for field in [login, b"ssh-connection", b"none"] {
        put_string(&mut payload, field).unwrap();
    }
    payload
}

#[test]
fn a_username_change_during_authentication_ends_it() {
    let answers = asked(&[service(), none(b"alice"), none(b"root")]);
    assert!(matches!(answers[..], [Ok(Asked::Reply(_)), Ok(Asked::Login(_)), Err(AuthError::NameChanged)]));
    let answers = asked(&[service(), none(b"alice"), none(b"alice\0")]);
    assert_eq!(answers[2], Err(AuthError::NameChanged));
}

#[test]
fn early_channel_messages_before_authentication_end_it() {
    for number in message::GLOBAL_REQUEST..=message::CHANNEL_FAILURE {
        for before in [vec![], vec![service()]] {
            let answers = asked(&[before, vec![vec![number, 0, 0, 0, 0]]].concat());
            assert_eq!(answers.last(), Some(&Err(AuthError::Unexpected(number))));
        }
    }
}

#[test]
fn the_service_is_accepted_once_and_no_other_is() {
    assert_eq!(asked(&[service(), service()])[1], Err(AuthError::Unexpected(message::SERVICE_REQUEST)));
    let mut other = vec![message::SERVICE_REQUEST];
    put_string(&mut other, b"ssh-connection").unwrap();
    assert_eq!(asked(&[other]), [Err(AuthError::Service)]);
}
