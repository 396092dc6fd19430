//! Encoded terminal modes (RFC 4254 section 8). Pure.

use portreeve_ssh::wire::Reader;

/// TTY_OP_END: the list is over.
const END: u8 = 0;
/// Opcodes from here on have arguments that are not defined, so nothing after them can be read.
const UNDEFINED: u8 = 160;

/// Modes that are kept: one for each opcode that has a defined argument.
const MOST: usize = (UNDEFINED - END - 1) as usize;

/// The first 159 modes in the order they were sent, by name, or by number in decimal where they have none.
/// Reads up to the first one that cannot be read: the target judges what is malformed.
pub(super) fn decode(encoded: &[u8]) -> Vec<(String, u32)> {
    let mut reader = Reader::new(encoded);
    let mut modes = Vec::new();
    while modes.len() < MOST
        && let Ok(opcode) = reader.u8()
        && (END + 1..UNDEFINED).contains(&opcode)
        && let Ok(argument) = reader.u32()
    {
        modes.push((name(opcode).map_or_else(|| opcode.to_string(), str::to_owned), argument));
    }
    modes
}

fn name(opcode: u8) -> Option<&'static str> {
    const CHARACTERS: [&str; 18] = [
        "VINTR", "VQUIT", "VERASE", "VKILL", "VEOF", "VEOL", "VEOL2", "VSTART", "VSTOP", "VSUSP", "VDSUSP",
        "VREPRINT", "VWERASE", "VLNEXT", "VFLUSH", "VSWTCH", "VSTATUS", "VDISCARD",
    ];
    const INPUT: [&str; 13] = [
        "IGNPAR", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IUCLC", "IXON", "IXANY", "IXOFF",
        "IMAXBEL", "IUTF8",
    ];
    const LOCAL: [&str; 13] = [
        "ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "IEXTEN",
        "ECHOCTL", "ECHOKE", "PENDIN",
    ];
    const OUTPUT: [&str; 6] = ["OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET"];
    const CONTROL: [&str; 4] = ["CS7", "CS8", "PARENB", "PARODD"];
    const SPEED: [&str; 2] = ["TTY_OP_ISPEED", "TTY_OP_OSPEED"];
    let groups: [(u8, &'static [&'static str]); 6] =
        [(128, &SPEED), (90, &CONTROL), (70, &OUTPUT), (50, &LOCAL), (30, &INPUT), (1, &CHARACTERS)];
    let (first, names) = groups.into_iter().find(|(first, _)| *first <= opcode)?;
    names.get(usize::from(opcode - first)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_are_those_of_rfc_4254_section_8() {
        let table = [
            (1, "VINTR"),
            (18, "VDISCARD"),
            (30, "IGNPAR"),
            (38, "IXON"),
            (41, "IMAXBEL"),
            (42, "IUTF8"),
            (50, "ISIG"),
            (53, "ECHO"),
            (59, "IEXTEN"),
            (62, "PENDIN"),
            (70, "OPOST"),
            (72, "ONLCR"),
            (75, "ONLRET"),
            (90, "CS7"),
            (93, "PARODD"),
            (128, "TTY_OP_ISPEED"),
            (129, "TTY_OP_OSPEED"),
        ];
        for (opcode, expected) in table {
            assert_eq!(name(opcode), Some(expected), "{opcode}");
        }
        for opcode in [0, 19, 29, 43, 49, 63, 76, 94, 127, 130, 159] {
            assert_eq!(name(opcode), None, "{opcode}");
        }
    }

    #[test]
    fn a_list_is_read_in_order_up_to_its_end() {
        let encoded = [53, 0, 0, 0, 1, 128, 0, 0, 0x96, 0, 99, 0, 0, 0, 7, 0, 50, 0, 0, 0, 1];
        let expected = [("ECHO", 1), ("TTY_OP_ISPEED", 38400), ("99", 7)];
        assert_eq!(decode(&encoded), expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn what_cannot_be_read_ends_the_list() {
        assert_eq!(decode(&[53, 0, 0, 0, 1, 50, 0, 0]).len(), 1);
        assert_eq!(decode(&[53, 0, 0, 0, 1, 160, 0, 0, 0, 1]).len(), 1);
        assert!(decode(&[]).is_empty());
    }

    #[test]
    fn a_list_that_repeats_itself_is_cut() {
        let every: Vec<u8> = (1..160).flat_map(|opcode| [opcode, 0, 0, 0, 1]).collect();
        assert_eq!(decode(&every).len(), 159);
        assert_eq!(decode(&every.repeat(330)), decode(&every));
    }
}
