"""The study: a database of facts in a run folder. Whatever is committed survives the death of the process.

Reading (no jax needed, never writes; works while a search is running, on read-only media, and after the folder was moved):

    study = open_study("runs/digits")
    study.candidates(), study.candidate(17), study.seed(), study.best(), study.pareto(), study.summary(), study.status()
    study.config (mapping), study.key (int), study.fingerprint, study.environment, study.decisions("generation")
    candidate.id, .parent, .generation, .status, .method, .proposal, .graph_hash, .graph_json(), .graph() (needs jax)
    candidate.outcomes(stage=None), .values(stage), .accuracies(stage), .params, .macs, .error, .accuracy, .latency_ms,
        .objective(name), .weights(), .artifact(kind), .save(folder), .lineage(), .summary()

Rows are in study.sqlite, or with `store="postgresql://…"` in PostgreSQL, one schema a study; `store.json` in the folder says where.
With `patience=Patience(seconds, tell)` a full disk, a read-only folder or a lost database makes a call wait until it is mended.

Writing (one process a run folder, held by a file lock; every call is one committed transaction):

    with create_study(folder, config=config.to_mapping(), config_toml=config.to_toml(), key=config.seed,
                      fingerprint=pictures.fingerprint, environment=environment(threads=2)) as recorder:
    with resume_study(folder, config=None, fingerprint=None) as recorder:    # where given, they must agree with the stored ones
        recorder.study                                        # the reading side, sees all that is committed
        recorder.candidate(7, status="ok", graph_json=…, graph_hash=…, parent=0, generation=1, proposal={…}, method="exact",
                           seconds=0.1, cause=None, message=None)
            → Candidate; "duplicate" (with `duplicate_of`) when the hash is known; an id that is there already stays as it is
        recorder.outcome(7, "cost", values={"params": …, "macs": …})
        recorder.outcome(7, "short", "failed", cause="diverged", message="…", discriminator=0, values={…},
                         artifacts={"weights/short": path})
            → Outcome; (candidate, stage, discriminator) exists once: a late one is logged and the first is returned
        recorder.find(7, "short", 0) → Outcome | None; recorder.done(7, "short") → bool
        recorder.decide("generation", {"number": 3, "ids": […]})   # append-only log, read by study.decisions(kind); `once="name"`:
                                                              # only if the log has no entry of that name
        recorder.decide("best", {"candidate": 7, …})               # what study.best() then gives
        recorder.scratch("name.safetensors") → path in the run folder for a worker's output; `artifacts=` moves it in
        with recorder.transaction(): …                        # several writes, all or none
        recorder.together(calls)                              # the same for a function, which is called again after a pause
        lease = recorder.lease(7, "short", 0)                 # None while another process has it; recorder.renew() now and then
        recorder.outcome(7, "short", discriminator=0, values={…}, lease=lease)    # raises Superseded if it was taken over since
        recorder.finish("done")                               # or "stopped", "failed", …

Statuses: ok, rejected, failed, duplicate, infeasible, gave_up.
Stages: synthesis (written by `candidate`), cost, score, short, full, test, measure.
Values that the reading side knows (others are kept as they are; a number that is not finite becomes null):
    cost: params, macs, peak_bytes, …   score: score
    short, full: accuracy (on the validation part; a number, or a list with one per seed)    test: accuracy (on the test part)
    measure: median_ms, spread_ms, backend, tuned, schedule, trials, threads, batch, …
short, full and test may be one outcome per seed (discriminator = the seed) or one with a list; measure has one per back end.
Artifact kinds: "weights/…" (the latest is what `candidate.weights()` gives), "model.py", or any other name; once per candidate.

Also: `pareto_front(points)`, `hypervolume`, `curve_distance`; `write_atomic(path, content)` for any file of a run folder.
"""

from alphanas.study.candidate import Candidate
from alphanas.study.environment import environment
from alphanas.study.files import write_atomic
from alphanas.study.leases import Lease, Superseded
from alphanas.study.pareto import curve_distance, hypervolume, pareto_front
from alphanas.study.patience import IMPATIENT, MENDABLE, Patience
from alphanas.study.place import holds_study
from alphanas.study.recorder import Recorder, create_study, resume_study
from alphanas.study.records import STAGES, STATUSES, Artifact, Decision, Outcome
from alphanas.study.study import Study, open_study

__all__ = [
    "IMPATIENT",
    "MENDABLE",
    "STAGES",
    "STATUSES",
    "Artifact",
    "Candidate",
    "Decision",
    "Lease",
    "Outcome",
    "Patience",
    "Recorder",
    "Study",
    "Superseded",
    "create_study",
    "curve_distance",
    "environment",
    "holds_study",
    "hypervolume",
    "open_study",
    "pareto_front",
    "resume_study",
    "write_atomic",
]
