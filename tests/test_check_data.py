"""launch.check_data counts the pictures of each class and lists every file that cannot be used."""

import os

import numpy as np

from launch import check_data
from tests.pictures import stylegan_files, write, write_zip


def test_check_data_counts_what_is_there(split_folder, capsys):
  assert check_data.main([f'--dir={split_folder}']) == 0
  out = capsys.readouterr().out
  assert "folder train: 12 images: 'cross' 6, 'disc' 6" in out and 'folder test: 6 images' in out


def test_check_data_lists_every_bad_file_on_a_line_of_its_own(split_folder, capsys):
  for i in range(300):
    (split_folder / f'train/disc/bad{i}.png').write_bytes(b'')
  (split_folder / 'train/disc/.DS_Store').write_bytes(b'')
  write(split_folder / 'test/disc/flat.png', np.zeros((16, 40, 3), np.uint8))
  assert check_data.main([f'--dir={split_folder}']) == 2
  out, err = capsys.readouterr()
  lines = out.splitlines()
  assert all(f'cannot be used: train/disc/bad{i}.png (empty)' in lines for i in range(300))
  assert 'cannot be used: test/disc/flat.png (40x16 pixels, not square)' in lines
  assert 'hidden, left out: train/disc/.DS_Store' in lines
  assert 'found 301 files' in err and '--fit=crop, pad or resize' in err
  assert check_data.main([f'--dir={split_folder}', '--fit=pad']) == 2
  assert 'flat.png' not in capsys.readouterr().out


def test_names_that_are_no_text_are_named_in_escapes(split_folder, capsys):
  folder = os.fsencode(split_folder)
  os.rename(folder + b'/train/disc', folder + b'/train/caf\xe9')
  (split_folder / os.fsdecode(b'.caf\xe9')).write_bytes(b'')
  assert check_data.main([f'--dir={split_folder}']) == 2
  out, _ = capsys.readouterr()
  assert 'cannot be used: train/caf\\udce9/000.png (a name that is not UTF-8)' in out.splitlines()
  assert 'hidden, left out: .caf\\udce9' in out.splitlines()


def test_check_data_reads_zips(tmp_path, capsys):
  assert check_data.main([f'--dir={write_zip(tmp_path / "a.zip", stylegan_files(6))}']) == 0
  assert "folder train: 6 images: '3' 3, '7' 3" in capsys.readouterr().out
