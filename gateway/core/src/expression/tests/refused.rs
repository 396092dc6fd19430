//! What is refused, where, and with which advice.

use super::*;

/// Source, with `^` before the offending token, and a part of the message.
#[track_caller]
fn check_refusals(table: &[(&str, &str)]) {
    for (marked, expected) in table {
        let (before, after) = marked.split_once('^').unwrap();
        let error = Expression::parse(&format!("{before}{after}"), &lists())
            .err()
            .unwrap_or_else(|| panic!("{marked} was accepted"));
        assert!(error.message.contains(expected), "{marked}: {}", error.message);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        assert_eq!((error.line, error.column), (line, column), "{marked}: {}", error.message);
    }
}

#[test]
fn fields() {
    check_refusals(&[
        ("^net.dst.prot == 22", "did you mean `net.dst.port`?"),
        ("^net.dest.port == 22", "did you mean `net.dst.port`?"),
        ("^NET.DST.PORT == 22", "did you mean `net.dst.port`?"),
        ("^identity.mail == \"a@b\"", "did you mean `identity.email`?"),
        ("^http.request.host == \"x\"", "the fields are net.src.ip,"),
        ("net.dst.port == 22 and ^identity.emial == \"a@b\"", "did you mean `identity.email`?"),
        ("any(^identity.groups[*].email == \"a@b\")", "groups have names only"),
        ("any(^identity.groups[*].id == \"x\")", "groups have names only"),
        ("any(^identity.groups.name == \"x\")", "did you mean `identity.groups[*].name`?"),
        ("^identity.groups == \"x\"", "write `any(identity.groups[*].name"),
        ("any(^device_posture.checks.failed[*] == \"x\")", "not any(device_posture.checks.passed[*]"),
        ("any(^device_posture.checks.passed == \"x\")", "did you mean `device_posture.checks.passed[*]`?"),
        ("^22 == net.dst.port", "a comparison begins with a field"),
        ("^\"identity.email\" == \"a@b\"", "expected a condition"),
    ]);
}

#[test]
fn any_and_elements() {
    check_refusals(&[
        ("^identity.groups[*].name == \"x\"", "write `any(identity.groups[*].name ...)`"),
        ("not ^device_posture.checks.passed[*] == \"x\"", "write `any("),
        ("any(^net.dst.port == 22)", "without `any`"),
        (
            "^any(identity.groups[*].name == \"x\" and identity.groups[*].name == \"y\")",
            "holds one comparison",
        ),
        ("^any(not identity.groups[*].name == \"x\")", "holds one comparison"),
        ("^any(any(identity.groups[*].name == \"x\"))", "holds one comparison"),
        ("any(identity.groups[*].name^)", "expected an operator after `identity.groups[*].name`"),
        ("any ^== 22", "expected `(` after `any`"),
        ("any(^)", "expected a condition"),
        ("any(identity.groups^[0].name == \"x\")", "are written `[*]`"),
    ]);
}

#[test]
fn values_of_the_wrong_type() {
    check_refusals(&[
        ("net.dst.ip == ^\"10.0.0.1\"", "write \"10.0.0.1\" without its quotes"),
        ("net.dst.ip in {10.0.0.1 ^\"10.0.0.0/8\"}", "write \"10.0.0.0/8\" without its quotes"),
        ("net.dst.ip == ^10.0.0.0/8", "write `net.dst.ip in {10.0.0.0/8}`"),
        ("net.dst.ip == ^22", "\"22\" is no IP address"),
        ("net.dst.ip in {^10.0.0.0/33}", "is no IP address or prefix"),
        ("net.dst.ip in {^10.0.0.1/8}", "write 10.0.0.0/8"),
        ("net.dst.ip in {^10.0.0.9..10.0.0.1}", "ends before it begins"),
        ("net.dst.ip in {^10.0.0.9..::1}", "mixes IPv4 and IPv6"),
        ("net.dst.ip in {^10.0.0.0/8..11.0.0.0}", "\"10.0.0.0/8\" is no IP address"),
        ("net.dst.ip == ^10.0.0.256", "is no IP address"),
        ("net.dst.ip == ^fe80::1%eth0", "is no IP address"),
        ("net.dst.port == ^65536", "0 to 65535"),
        ("net.dst.port == ^\"65536\"", "0 to 65535"),
        ("net.dst.port == ^-1", "0 to 65535"),
        ("net.dst.port == ^+22", "0 to 65535"),
        ("net.dst.port == ^ssh", "0 to 65535"),
        ("net.dst.port == ^\"\"", "0 to 65535"),
        ("net.dst.port == ^22.0", "0 to 65535"),
        ("net.dst.port in {22 ^99999}", "0 to 65535"),
        ("net.dst.port in {^30..20}", "ends before it begins"),
        ("net.dst.port in {^10.0.0.0/8}", "is no port"),
        ("net.dst.port > ^70000", "0 to 65535"),
        ("net.dst.port == ^net.src.port", "is no port"),
        ("identity.email == ^alice@example.com", "write \"alice@example.com\""),
        ("identity.email == ^\"alice\"", "name@domain"),
        ("identity.email in {^\"*@example.com\"}", "wildcard"),
        ("identity.name in {^\"a\"..\"b\"}", "ports or addresses at its ends"),
        ("identity.name == ^\"\"", "empty"),
        ("net.src.geo.country == ^\"Germany\"", "two letters"),
        ("net.src.geo.country == ^DE", "write \"DE\""),
        ("net.protocol == ^\"tpc\"", "write \"tcp\""),
        ("access.target == ^\"web 1\"", "is no hostname"),
        (&format!("access.target == ^\"{}\"", "x".repeat(254)), "at most 253 characters"),
    ]);
}

#[test]
fn operators_of_the_wrong_type() {
    check_refusals(&[
        ("net.dst.ip ^> 10.0.0.1", "write `in {first..last}`"),
        ("identity.email ^< \"a@b\"", "compares ports"),
        ("net.dst.port ^matches \"2.\"", "`matches` is for texts"),
        ("net.src.ip ^matches \"10\\\\.\"", "`matches` is for texts"),
        ("identity.email matches ^{\"a\"}", "takes a pattern"),
        ("identity.email matches ^$staff", "takes a pattern"),
        ("identity.email matches ^abc", "takes a pattern"),
        ("net.dst.port == ^{22}", "write `in` before a set"),
        ("net.dst.port != ^$ssh-ports", "write `in $ssh-ports`"),
        ("net.dst.port < ^{22}", "takes one port"),
        ("net.dst.port in ^22", "write `in {22}`"),
        ("identity.email in ^\"a@b\"", "write `in {\"a@b\"}`"),
    ]);
}

#[test]
fn lists_that_do_not_fit() {
    check_refusals(&[
        ("net.dst.ip in ^$ofice", "did you mean `$office`?"),
        ("net.dst.ip in ^$something_else", "the lists are dach, nobody,"),
        ("net.dst.ip in ^$staff", "a member of `$staff` is an e-mail address"),
        ("net.dst.port in ^$office", "but `net.dst.port` is compared with a port"),
        ("identity.email in ^$roles", "is a text"),
        ("net.dst.ip in {^$office}", "without braces"),
        ("net.dst.ip in ^$", "needs the name of a list"),
    ]);
    let none = Expression::parse("net.dst.ip in $x", &Lists::default()).unwrap_err();
    assert_eq!(none.to_string(), "line 1, column 15: there is no list `$x`: the policy file has none");
}

#[test]
fn syntax() {
    check_refusals(&[
        ("net.dst.port == ^", "expected a value after `==`, found the end"),
        ("net.dst.port ^", "expected an operator after `net.dst.port`"),
        ("net.dst.port ^= 22", "write `==`"),
        ("net.dst.port == 22 ^&& net.src.port == 1", "write `and`"),
        ("net.dst.port == 22 ^|| net.src.port == 1", "write `or`"),
        ("^!(net.dst.port == 22)", "write `not`"),
        ("net.dst.port == 22 ^AND net.src.port == 1", "write `and`"),
        ("^NOT net.dst.port == 22", "write `not`"),
        ("net.dst.port ^eq 22", "write `==`"),
        ("identity.name ^contains \"x\"", "write `matches \"...\"`"),
        ("identity.name ^~ \"x\"", "write `matches`"),
        ("net.dst.port in {22^, 2222}", "separated by spaces"),
        ("net.dst.port in ^{}", "an empty set"),
        ("net.dst.port in {22^", "or its closing `}`, found the end"),
        ("net.dst.port in {22..^}", "the end of the range"),
        ("net.dst.port in {^..22}", "a member of the set"),
        ("net.dst.port == 22 ^net.src.port == 1", "expected `and`, `or` or the end"),
        ("net.dst.port == 22 ^== 22", "expected `and`, `or` or the end"),
        ("net.dst.port == 22 and^", "expected a condition"),
        ("^and net.dst.port == 22", "expected a condition"),
        ("^(net.dst.port == 22", "this bracket is never closed"),
        ("(net.dst.port == 22 or ^(net.src.port == 1", "this bracket is never closed"),
        ("^(net.dst.port == 22 or (net.src.port == 1)", "this bracket is never closed"),
        ("net.dst.port == 22^)", "found `)`"),
        ("(net.dst.port == 22 ^}", "expected `and`, `or` or `)`"),
        ("identity.name == ^'x'", "double quotes"),
        ("identity.name == ^\"x", "no closing"),
        ("identity.name == ^\"x\ny\"", "no closing"),
        ("identity.name == \"x^\\.y\"", "written twice, `\\\\.`"),
        ("identity.name == ^\"x\\", "no closing"),
        ("net.dst.port == 22 ^# ssh", "no comments"),
        ("net.dst.port == 22 ^\u{1b}", "unexpected character"),
    ]);
}

#[test]
fn columns_count_characters() {
    check_refusals(&[
        ("identity.name == \"äöü☃\" and ^x == 1", "no field"),
        ("identity.name == \"ä\"\r\n\tand ^x == 1", "no field"),
        ("\n  net.dst.port == 22\n\n  or ^ä.b == 1", "a comparison begins with a field"),
    ]);
}

#[test]
fn patterns() {
    let big = "identity.name matches ^\"(\\\\w{100}){100}\"";
    check_refusals(&[
        ("identity.email matches ^\"(a\"", "this is no regular expression: unclosed group"),
        ("identity.email matches ^\"a{2,1}\"", "this is no regular expression"),
        ("identity.email matches \".*@example^\\.com\"", "a backslash"),
        (big, "make its repetitions smaller"),
    ]);
    let deep = format!("identity.name matches ^\"{}x{}\"", "(".repeat(1000), ")".repeat(1000));
    check_refusals(&[(&deep, "this is no regular expression")]);
    let pattern = "identity.name matches \"x\"";
    let at_limit = [pattern; 64].join(" or ");
    Expression::parse(&at_limit, &lists()).unwrap();
    check_refusals(&[(&format!("{at_limit} or identity.name matches ^\"x\""), "at most 64 patterns")]);
}

#[test]
fn nesting_is_bounded_and_chains_are_not() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}net.dst.port == 22{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close, levels) in [("(", ")", 1), ("not ", "", 1), ("not(", ")", 2)] {
        let deepest = parser::MAX_DEPTH / levels;
        Expression::parse(&nested(open, close, deepest), &lists()).unwrap();
        let error = Expression::parse(&nested(open, close, deepest + 1), &lists()).unwrap_err();
        assert!(error.message.contains("nested more than 64 deep"), "{}", error.message);
    }
    for bomb in ["(", "any(", "not ", "((((not", "any(any(not("] {
        let error = Expression::parse(&bomb.repeat(MAX_SOURCE / bomb.len()), &lists()).unwrap_err();
        assert!(error.message.contains("nested more than 64 deep"), "{bomb}: {}", error.message);
    }
    let chain = ["net.dst.port == 1"; 2500].join(" or ");
    assert!(!holds(&chain, &unknown()));
}

#[test]
fn length_is_bounded() {
    let error = Expression::parse(&" ".repeat(MAX_SOURCE + 1), &lists()).unwrap_err();
    assert!(error.message.contains("move its sets to lists"), "{}", error.message);
}
