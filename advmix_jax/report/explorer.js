// The explorer of a report: filters test images and shows one of them with what two classifiers read in it.
// Its data is the JSON of report/explorer.py. Text from the data becomes text nodes only, never markup.
'use strict';

(() => {
  const byId = (name) => document.getElementById(`explorer-${name}`);
  const data = JSON.parse(byId('data').textContent);
  const [height, width] = data.size;
  const everyone = data.labels.map((_, example) => example);

  // What the user has chosen. `a`, `b`, `seed` and `variants` are places in lists of the data.
  const state = {
    seed: 0, a: 0, b: 0, variants: 0, difference: 'original', class: 'any', clean: 'any', outcome: 'any', example: 0,
  };
  let listed = everyone;

  // ---- What the data says.

  const seed = () => data.seeds[state.seed];
  const classifier = (side) => seed().classifiers[state[side]];
  const variants = () => seed().variants[state.variants];
  const hasVariant = (example) => variants().cells[example] >= 0;

  /** Classes and probabilities as pairs, most likely first; null where there is no such picture. */
  function reading(one, view, example) {
    const flat = view === 'variant' ? one.variants[state.variants][example] : one[view][example];
    if (!flat) return null;
    const pairs = [];
    for (let i = 0; i < flat.length; i += 2) pairs.push([flat[i], flat[i + 1] / data.unit]);
    return pairs;
  }

  function reads(one, view, example) {
    const pairs = reading(one, view, example);
    return pairs !== null && pairs[0][0] === data.labels[example];
  }

  const OUTCOMES = {
    any: ['All', () => true],
    a: ['Only {a}', (a, b) => a && !b],
    b: ['Only {b}', (a, b) => !a && b],
    both: ['Both', (a, b) => a && b],
    neither: ['Neither', (a, b) => !a && !b],
  };
  const CLEAN = {
    any: ['any', () => true],
    both: ['both', (a, b) => a && b],
    a: ['{a} only', (a, b) => a && !b],
    b: ['{b} only', (a, b) => !a && b],
    neither: ['neither', (a, b) => !a && !b],
  };

  /** Whether an example passes the filters, with some of them set to other values. */
  function passes(example, changes = {}) {
    const wanted = { ...state, ...changes };
    const [a, b] = [classifier('a'), classifier('b')];
    return (wanted.class === 'any' || data.labels[example] === Number(wanted.class))
      && OUTCOMES[wanted.outcome][1](a.fooled[example] === 1, b.fooled[example] === 1)
      && CLEAN[wanted.clean][1](reads(a, 'original', example), reads(b, 'original', example));
  }

  const count = (changes) => everyone.filter((example) => passes(example, changes)).length;

  // ---- Words.

  const capital = (words) => words[0].toUpperCase() + words.slice(1);
  const named = (words) => words.replace('{a}', classifier('a').title).replace('{b}', classifier('b').title);

  /** What is neither 0 nor 1 is not rounded to it. */
  function percent(share) {
    if (share < 0.001) return '< 0.1 %';
    if (share > 0.999) return '> 99.9 %';
    return `${(100 * share).toFixed(1)} %`;
  }

  function ofMany(number, all) {
    return all ? `${number} of ${all} (${(100 * number / all).toFixed(1)} %)` : '–';
  }

  /** What became of an example under a classifier's own attack. */
  function verdict(one, example) {
    if (!one.fooled[example]) return ['✓', `holds: none of ${data.restarts} restarts found a variant that it misreads`];
    if (!reads(one, 'original', example)) return ['✗', 'misreads the image as it is, so the evaluation searched for no variant'];
    const own = seed().variants.find((found) => found.method === one.method && found.kind === 'evaluated');
    if (own.restart[example] < 0) return ['✗', 'misreads the reconstruction, so the evaluation searched for no variant'];
    return ['✗', `is fooled by a variant that restart ${own.restart[example] + 1} of ${data.restarts} found`];
  }

  // ---- Pictures.

  const sheets = new Map();

  async function load(sheet) {
    if (!sheet.url) return;
    const picture = new Image();
    picture.src = sheet.url;
    await picture.decode();
    sheets.set(sheet, picture);
  }

  function sheetAndCell(view, example) {
    return view === 'variant' ? [variants(), variants().cells[example]] : [data[view], example];
  }

  function canvas(words) {
    return make('canvas', { width, height, role: 'img', 'aria-label': words });
  }

  function draw(target, view, example) {
    const [sheet, cell] = sheetAndCell(view, example);
    const [column, row] = [cell % sheet.columns, Math.floor(cell / sheet.columns)];
    const context = target.getContext('2d', { willReadFrequently: true });
    context.drawImage(sheets.get(sheet), column * width, row * height, width, height, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  }

  /** Draws `after - before` around grey, the largest change at full strength; returns that change of 255. */
  function drawDifference(target, before, after) {
    let scale = 0;
    for (let i = 0; i < before.length; i++) scale = Math.max(scale, Math.abs(after[i] - before[i]));
    const context = target.getContext('2d');
    const picture = context.createImageData(width, height);
    for (let i = 0; i < before.length; i++) {
      picture.data[i] = i % 4 === 3 ? 255 : Math.round(127.5 + 127.5 * (after[i] - before[i]) / Math.max(scale, 1));
    }
    context.putImageData(picture, 0, 0);
    return scale;
  }

  // ---- Elements.

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** Fills a select with `[value, words]`, keeping what is chosen. */
  function fill(name, options) {
    const select = byId(name);
    select.replaceChildren(...options.map(([value, words]) => make('option', { value }, words)));
    select.value = state[name];
  }

  function showChoices() {
    const titles = seed().classifiers.map((one, i) => [i, one.title]);
    fill('a', titles);
    fill('b', titles);
    fill('seed', data.seeds.map((one, i) => [i, String(one.seed)]));
    byId('seed').parentElement.hidden = data.seeds.length === 1;
    fill('variants', seed().variants.map((found, i) => [i, variantsTitle(found)]));
    fill('difference', [['original', 'original'], ['reconstruction', 'reconstruction']]);
    const classes = data.classes.map((name, k) => [k, `${name} (${count({ class: k })})`]);
    fill('class', [['any', `any (${count({ class: 'any' })})`], ...classes]);
    fill('clean', Object.entries(CLEAN).map(
      ([value, [words]]) => [value, `${named(words)} (${count({ clean: value })})`]));
    for (const [value, [words]] of Object.entries(OUTCOMES)) {
      const label = byId('outcome').querySelector(`[value="${value}"]`).nextElementSibling;
      label.replaceChildren(named(words), make('b', {}, ` ${count({ outcome: value })}`));
    }
  }

  const variantsTitle = (found) => (
    `against ${found.title}, ${found.kind === 'strongest' ? 'highest loss' : 'as evaluated'}`);

  function showSummary() {
    byId('count').textContent = `${listed.length} of ${everyone.length} images listed.`;
    const withVariant = listed.filter(hasVariant);
    const columns = [
      ['Original', (one) => ofMany(listed.filter((e) => reads(one, 'original', e)).length, listed.length)],
      ['Reconstruction', (one) => ofMany(listed.filter((e) => reads(one, 'reconstruction', e)).length, listed.length)],
      [`Variants ${variantsTitle(variants())}`,
        (one) => ofMany(withVariant.filter((e) => reads(one, 'variant', e)).length, withVariant.length)],
      ['Holds against its own attack', (one) => ofMany(listed.filter((e) => !one.fooled[e]).length, listed.length)],
    ];
    const table = byId('summary');
    table.tHead.replaceChildren(make('tr', {}, make('th', { scope: 'col' }, 'Classifier'),
      ...columns.map(([words]) => make('th', { scope: 'col' }, words))));
    table.tBodies[0].replaceChildren(...[classifier('a'), classifier('b')].map((one) => make('tr', {},
      make('th', { scope: 'row' }, one.title), ...columns.map(([, cell]) => make('td', {}, cell(one))))));
  }

  function showList() {
    const marks = (example) => ['a', 'b'].map((side) => (classifier(side).fooled[example] ? '✗' : '✓')).join('');
    const words = (example) => `Image ${data.index[example]}, class ${data.classes[data.labels[example]]}, `
      + ['a', 'b'].map((side) => `${classifier(side).title} ${classifier(side).fooled[example] ? 'fooled' : 'holds'}`)
        .join(', ');
    byId('list').replaceChildren(...listed.map((example) => {
      const picture = make('canvas', { width, height, 'aria-hidden': 'true' });
      draw(picture, 'original', example);
      const option = make('div', {
        role: 'option', tabindex: -1, 'aria-selected': 'false', 'aria-label': words(example), title: words(example),
      }, picture, make('span', { 'aria-hidden': 'true' }, marks(example)));
      option.addEventListener('click', () => select(example));
      return option;
    }));
  }

  function readingBlock(side, view, example) {
    const one = classifier(side);
    const pairs = reading(one, view, example);
    if (!pairs) return make('div', { class: 'reading' });
    const truth = data.labels[example];
    const right = pairs[0][0] === truth;
    const verdictLine = make('p', { class: right ? 'right' : 'wrong' },
      make('b', {}, one.title), ` ${right ? '✓' : '✗'} reads `, make('q', {}, data.classes[pairs[0][0]]));
    const bars = pairs.map(([k, share]) => {
      const bar = make('span', { class: 'bar' });
      bar.style.width = `${100 * share}%`;
      const attributes = k === truth ? { class: 'truth' } : {};
      return make('li', attributes, make('span', { class: 'name', title: data.classes[k] }, data.classes[k]),
        make('span', { class: 'track', 'aria-hidden': 'true' }, bar),
        make('span', { class: 'share' }, percent(share)));
    });
    return make('div', { class: 'reading' }, verdictLine, make('ol', {}, ...bars));
  }

  function view(name, title, note, example, paint) {
    const picture = canvas(`${title}, image ${data.index[example]}`);
    const readings = name ? ['a', 'b'].map((side) => readingBlock(side, name, example)) : [];
    const figure = make('figure', {}, picture,
      make('figcaption', {}, make('b', {}, title), make('span', {}, note)), ...readings);
    figure.dataset.view = name || 'difference';
    paint(picture);
    return figure;
  }

  function showExample() {
    const example = state.example;
    const shown = listed.includes(example);
    byId('example').hidden = !shown;
    if (!shown) return;
    const place = listed.indexOf(example);
    byId('name').replaceChildren(`${capital(data.split)} image ${data.index[example]}, class `,
      make('q', {}, data.classes[data.labels[example]]));
    byId('place').textContent = `${place + 1} of ${listed.length}`;
    byId('previous').disabled = place === 0;
    byId('next').disabled = place === listed.length - 1;
    byId('verdicts').replaceChildren(...['a', 'b'].map((side) => {
      const [mark, words] = verdict(classifier(side), example);
      return make('li', {}, `${mark} `, make('b', {}, classifier(side).title), ` ${words}.`);
    }));
    const pixels = {};
    const keep = (name) => (picture) => { pixels[name] = draw(picture, name, example); };
    const views = [
      view('original', 'Original', 'the image as it is', example, keep('original')),
      view('reconstruction', 'Reconstruction', 'from its latents', example, keep('reconstruction')),
    ];
    if (hasVariant(example)) {
      const before = state.difference;
      views.push(view('variant', 'Variant', variantsTitle(variants()), example, keep('variant')));
      views.push(view('', 'Difference', '', example, (picture) => {
        pixels.scale = drawDifference(picture, pixels[before], pixels.variant);
      }));
      views[3].querySelector('figcaption span').textContent = pixels.scale
        ? `from the ${before}, × ${(127.5 / pixels.scale).toFixed(2)}: ±${pixels.scale} of 255 is full strength`
        : `none: the variant is the ${before}`;
    } else {
      const target = seed().classifiers.find((one) => one.method === variants().method);
      views.push(make('figure', { 'data-view': 'none' }, make('figcaption', {}, make('b', {}, 'No variant'),
        make('span', {}, `${target.title} ${verdict(target, example)[1]}`))));
    }
    byId('views').replaceChildren(...views);
    const options = [...byId('list').children];
    options.forEach((option, i) => {
      option.setAttribute('aria-selected', String(i === place));
      option.tabIndex = i === place ? 0 : -1;
    });
    const { offsetTop, offsetHeight } = options[place];
    const list = byId('list');  // Only the list is scrolled, never the page.
    if (offsetTop < list.scrollTop) list.scrollTop = offsetTop;
    else if (offsetTop + offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = offsetTop + offsetHeight - list.clientHeight;
    }
  }

  // ---- What the user does.

  function select(example, { focus = false } = {}) {
    state.example = example;
    showExample();
    if (focus) byId('list').children[listed.indexOf(example)].focus({ preventScroll: true });
  }

  function update() {
    listed = everyone.filter((example) => passes(example));
    if (listed.length && !listed.includes(state.example)) state.example = listed[0];
    showChoices();
    showSummary();
    showList();
    showExample();
  }

  function move(event) {
    const options = [...byId('list').children];
    const at = listed.indexOf(state.example);
    const perRow = options.filter((option) => option.offsetTop === options[0].offsetTop).length;
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow, Home: -listed.length, End: listed.length,
    };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey || !listed.length) return;
    event.preventDefault();
    const wanted = at + steps[event.key];
    select(listed[Math.min(Math.max(wanted, 0), listed.length - 1)], { focus: true });
  }

  function start() {
    const place = (method, otherwise) => {
      const found = seed().classifiers.findIndex((one) => one.method === method);
      return found < 0 ? otherwise : found;
    };
    state.a = place('nominal', 0);
    state.b = place('advmix', seed().classifiers.length - 1);
    for (const value of Object.keys(OUTCOMES)) {
      const radio = make('input', { type: 'radio', name: 'explorer-outcome', value });
      radio.checked = value === state.outcome;
      byId('outcome').append(make('label', {}, radio, make('span')));
      radio.addEventListener('change', () => { state.outcome = value; update(); });
    }
    for (const name of ['a', 'b', 'seed', 'variants', 'difference', 'class', 'clean']) {
      byId(name).addEventListener('change', (event) => {
        const chosen = event.target.value;
        state[name] = ['a', 'b', 'seed', 'variants'].includes(name) ? Number(chosen) : chosen;
        update();
      });
    }
    byId('list').addEventListener('keydown', move);
    for (const [name, step] of [['previous', -1], ['next', 1]]) {
      byId(name).addEventListener('click', () => select(listed[listed.indexOf(state.example) + step]));
    }
    document.getElementById('explorer').hidden = false;
    update();
  }

  const everything = [data.original, data.reconstruction, ...data.seeds.flatMap((one) => one.variants)];
  Promise.all(everything.map(load)).then(start, () => { byId('fault').hidden = false; });
})();
