//! Per-CPU counters.

use router_common::reason::Reason;

use crate::{
    frame::Frame,
    maps::{NH_COUNTERS, PORT_COUNTERS},
};

/// Counts a received frame; of its bytes those in the first buffer.
#[inline(always)]
pub fn received(port: u32, frame: &Frame) {
    if let Some(counters) = PORT_COUNTERS.get_ptr_mut(port) {
        // SAFETY: this CPU's own element, not shared while the program runs.
        unsafe {
            (*counters).rx_packets += 1;
            (*counters).rx_bytes += u64::from(frame.linear_length());
        }
    }
}

/// Counts received bytes that lie beyond the first buffer.
#[inline(always)]
pub fn received_beyond(port: u32, bytes: u32) {
    if let Some(counters) = PORT_COUNTERS.get_ptr_mut(port) {
        // SAFETY: this CPU's own element, not shared while the program runs.
        unsafe { (*counters).rx_bytes += u64::from(bytes) };
    }
}

/// Counts a packet that is not forwarded.
#[inline(always)]
pub fn count(port: u32, reason: Reason) {
    if let Some(counters) = PORT_COUNTERS.get_ptr_mut(port) {
        // SAFETY: this CPU's own element, not shared while the program runs; a reason's word lies
        // within it.
        unsafe { *counters.cast::<u64>().add(reason.word()) += 1 };
    }
}

/// Counts a packet that was redirected, `bytes` of layer 2.
#[inline(always)]
pub fn forwarded(next_hop: u32, bytes: u32) {
    if let Some(counters) = NH_COUNTERS.get_ptr_mut(next_hop) {
        // SAFETY: this CPU's own element, not shared while the program runs.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += u64::from(bytes);
        }
    }
}
