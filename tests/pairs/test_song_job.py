import filecmp

from conftest import write_song

from riffusion.pairs import stems
from riffusion.pairs.instructions import SongLabels
from riffusion.pairs.options import PairOptions
from riffusion.pairs.song_job import SongJob, run_job


def test_a_song_on_several_cores_gives_the_same_files(tmp_path):
    write_song(tmp_path / "song", seconds=1.9)
    options = PairOptions(clip_seconds=0.63, pitch_steps=(2,), min_level_db=0)
    jobs = {
        cores: SongJob(stems.song_at(tmp_path / "song"), SongLabels(), tmp_path / str(cores), options)
        for cores in (1, 3)
    }
    alone, shared = (run_job(job, cores=cores) for cores, job in jobs.items())
    assert (alone.failure, shared.failure) == ("", "")
    assert (shared.pairs, shared.not_kept) == (alone.pairs, alone.not_kept)
    assert min(alone.pairs.total(), alone.not_kept.total()) > 2
    names = sorted(path.name for path in alone.job.folder.iterdir())
    assert sorted(path.name for path in shared.job.folder.iterdir()) == names
    assert filecmp.cmpfiles(alone.job.folder, shared.job.folder, names, shallow=False)[0] == names
