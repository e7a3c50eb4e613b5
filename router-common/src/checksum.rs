//! Internet checksums: RFC 1071 sums, RFC 1624 differences, partial checksums.
