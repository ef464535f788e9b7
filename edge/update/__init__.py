"""The box's side of remote updates: fetch, verify, prove, switch, guard; the running model keeps running meanwhile."""
