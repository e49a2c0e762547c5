"""What a run shows: picture grids, labelled figures and one self-contained HTML page.

`grids` (pillow) is cheap enough to be called while a GAN trains; `charts` (figures with axes) and `pictures`
(rows of images with words, placed by `layout`) draw with matplotlib in one `style`; `page` (jinja2) binds
results and figures into one file. All of them are functions of numpy arrays that write one file, atomically,
and return its path; none of them reads a run folder or sees a network.
"""
