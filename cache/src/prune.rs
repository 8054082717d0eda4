//! What may go. Never what a lease holds, a named image needs, or a surviving record stands on.
