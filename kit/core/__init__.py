"""What everything else stands on: errors, schemas, files, checksums, the host."""
