//! The store: layers, blobs, records and leases, shared by any number of processes.
