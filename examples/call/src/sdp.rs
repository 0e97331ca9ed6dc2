//! What this end asks of the other's session description before it is given to `webrtcbin`: SFrame in each medium.
//!
//! `webrtcbin` itself asks for nothing of the kind. It takes a description without `a=sframe` as it takes any other, and a
//! signalling server, which can rewrite descriptions, would have a call in which it is missing.

use gst_webrtc::gst_sdp::{SDPMediaRef, SDPMessageRef};

/// The attribute of draft-ietf-avtcore-rtp-sframe. What is sent and received under it is sealed.
const SFRAME: &str = "sframe";

/// Port 0 declines a medium (RFC 3264 §6), unless it goes with another one (RFC 9143 §6).
fn is_declined(medium: &SDPMediaRef) -> bool {
    medium.port() == 0 && medium.attribute_val("bundle-only").is_none()
}

/// Says what is wrong with the other's description, for whoever has to mend it.
pub fn check(description: &SDPMessageRef) -> Result<(), String> {
    for medium in ["audio", "video"] {
        let found: Vec<_> = description
            .medias()
            .filter(|m| m.media() == Some(medium) && !is_declined(m))
            .collect();
        if found.is_empty() {
            return Err(format!(
                "the other end's description has no {medium}, and this call is both"
            ));
        }
        if found.iter().any(|m| m.attribute_val(SFRAME).is_none()) {
            return Err(format!(
                "the other end's description has no a=sframe for {medium}: what it sends would not be sealed, or it could \
                 not open what is sealed here, so nothing is sent. Use an end that seals with SFrame \
                 (draft-ietf-avtcore-rtp-sframe), and see that nothing on the way takes the line out"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod tests {
    use super::check;
    use gst_webrtc::gst;
    use gst_webrtc::gst_sdp::SDPMessage;

    const HEAD: &str = "v=0\r\no=- 1 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
    const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n";
    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 97\r\na=rtpmap:97 OPUS/48000/2\r\n";

    fn checked(media: &[&str]) -> Result<(), String> {
        gst::init().unwrap();
        check(&SDPMessage::parse_buffer(format!("{HEAD}{}", media.concat()).as_bytes()).unwrap())
    }

    #[test]
    fn each_medium_needs_the_attribute_of_its_own() {
        const SFRAME: &str = "a=sframe\r\n";
        assert_eq!(checked(&[VIDEO, SFRAME, AUDIO, SFRAME]), Ok(()));
        for (media, named) in [
            ([VIDEO, "", AUDIO, SFRAME], "video"),
            ([VIDEO, SFRAME, AUDIO, ""], "audio"),
            (["a=sframe\r\n", VIDEO, AUDIO, SFRAME], "video"),
            ([VIDEO, "a=sframe-like\r\n", AUDIO, SFRAME], "video"),
        ] {
            let refused = checked(&media).unwrap_err();
            assert!(refused.contains(&format!("no a=sframe for {named}")), "{refused}");
        }
    }

    #[test]
    fn a_medium_that_is_missing_or_declined_is_refused() {
        assert!(
            checked(&[AUDIO, "a=sframe\r\n"])
                .unwrap_err()
                .contains("no video")
        );
        let declined = VIDEO.replace("video 9", "video 0");
        let refused = checked(&[&declined, "a=sframe\r\n", AUDIO, "a=sframe\r\n"]).unwrap_err();
        assert!(refused.contains("no video"), "{refused}");
        let bundled = format!("{declined}a=bundle-only\r\n");
        assert_eq!(
            checked(&[&bundled, "a=sframe\r\n", AUDIO, "a=sframe\r\n"]),
            Ok(())
        );
    }
}
