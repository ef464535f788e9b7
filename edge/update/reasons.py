"""Why an update is refused or put off: one word each, the same in reports, logs and tests.

Words of the first table say that the repository or the way to it is at fault: nothing is held against the model, and it is
tried again. Words of the second say that the model itself is refused: this target is not tried again on this box until the
repository lists other content or a person asks for it with a new desired state.
"""

PUT_OFF = {
    "unreachable": "the repository or the file cannot be reached",
    "slow": "the download takes longer than it may",
    "expired": "the repository's metadata has expired: nobody renews it, somebody holds it back, or this box's clock is wrong",
    "unsigned": "metadata lacks signatures of the keys this box trusts",
    "rollback": "metadata is older than what this box has seen",
    "malformed": "metadata cannot be read",
    "mismatch": "a file is not the one the metadata describes",
    "too-large": "more bytes came than the metadata allows",
    "not-listed": "the repository does not list this target: withdrawn, or never published",
    "disk-full": "no room on the disk",
    "disk": "the disk cannot be read or written",
    "updater-failed": "the updater was started too often and stays down; nothing is tried until a person starts it",
    "paused": "updates are paused on this box",
    "pinned": "this box is pinned to another version",
    "window": "outside the maintenance window",
    "silent": "the station is not heard or not armed: a switch now could not be watched",
    "shadow": "the model judges beside the running one on live parts; it is not decided yet",
    "busy": "this box is too busy to time the model",
    "limit": "the station's own limit file cannot be used with it",
    "refused-before": "this box has refused the model before",
    "superseded": "another model was asked for meanwhile",
    "stale": "the desired state is older than one this box has obeyed",
    "not-signed-by-operator": "the desired state is not signed by a trusted operator",
    "not-for-us": "the desired state names another site, product or box",
}

REFUSED = {
    "bundle-unsigned": "the bundle is unsigned or signed by a key this box does not trust",
    "bundle-damaged": "the bundle is malformed or altered",
    "wrong-product": "the model inspects another product",
    "too-old": "the version is below the lowest one allowed",
    "wrong-version": "the bundle's version is not the one that was published",
    "engine": "no engine on this box can run the model",
    "golden": "golden frames do not give the scores they must",
    "not-finite": "the model gives scores that are no numbers",
    "disagrees": "it judges the running model's golden frames, or live parts, otherwise",
    "shadow-failed": "the comparison on live parts ended without an answer",
    "certificate": "its certificate does not say that it equals its float reference",
    "slow-model": "it takes longer than its budget on this box",
    "memory": "it takes more memory than this box allows it",
    "prove-failed": "the proof ended without an answer",
    "not-taken": "the daemon did not take the model in time",
    "daemon-died": "the daemon restarted while it ran the model",
    "not-armed": "the station was not armed with the model",
    "rejects": "it rejects more parts than promised and than the running model, or the one before it",
    "passes": "it passes parts the running model rejects, or rejects far fewer than the one before it",
    "invalids": "it leaves parts without a judgement",
    "late": "its verdicts come too late",
}

ALL = {**PUT_OFF, **REFUSED}
