'use strict';
const report = JSON.parse(document.getElementById('report').textContent);
const main = document.getElementById('main');
const several = report.runs.length > 1;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === 'class') node.className = value; else if (key === 'style') node.style.cssText = value; else node[key] = value;
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}
function short(v) {
  if (v === null || v === undefined) return '–';
  const a = Math.abs(v);
  if (a !== 0 && (a < 1e-3 || a >= 1e6)) return v.toExponential(2).replace(/\.?0+e/, 'e');
  return String(+v.toPrecision(5));
}
const swatch = color => el('span', { class: 'swatch', style: `background: var(${color})` });
const runColor = run => `--c${run % 8}`;
function section(title, ...children) {
  const kept = children.filter(Boolean);
  if (kept.length) main.append(el('h2', {}, title), ...kept);
}
function table(head, rows, numbers = []) {
  const cell = (tag, text, i, extra = '') => el(tag, { class: (numbers.includes(i) ? 'n' : 'w') + extra }, text instanceof Node ? text : String(text ?? ''));
  return el('div', { class: 'scroll' }, el('table', {},
    el('thead', {}, el('tr', {}, ...head.map((text, i) => cell('th', text, i)))),
    el('tbody', {}, ...rows.map(row => el('tr', {}, ...row.map((text, i) => cell('td', text, i)))))));
}

// ---- charts: drag over a stretch to look closer, click twice to see all again.
function ticks(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].map(k => k * power).find(s => s >= raw) || raw;
  // One mark alone says nothing of the scale.
  if (Math.floor(high / step) - Math.ceil(low / step) < 1) step /= 2;
  const all = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) all.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return all;
}
// Of logarithms: whole powers of ten, with 3 or with 2 and 5 between them where there are few.
function logTicks(low, high) {
  const marks = factors => { const all = [];
    for (let k = Math.floor(low); k <= high; k++) for (const f of factors) { const v = k + Math.log10(f); if (v >= low && v <= high) all.push(v); }
    return all; };
  const powers = marks([1]);
  if (powers.length > 6) return powers.filter((_, i) => i % Math.ceil(powers.length / 6) === 0);
  return [[1], [1, 3], [1, 2, 5]].map(marks).find(all => all.length >= 3) || ticks(low, high, 5);
}
function chart(spec) {
  const canvas = el('canvas', { tabIndex: 0 }), legend = el('div', { class: 'legend' });
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', spec.title + ': ' + spec.series.map(s => `${s.name} ends at ${short(s.y.at(-1))}`).join(', '));
  const positive = spec.series.every(s => s.y.every(y => y === null || y > 0));
  const log = el('input', { type: 'checkbox', checked: spec.log });
  const header = el('header', {}, el('h3', {}, spec.title), positive ? el('label', {}, log, ' log scale') : null);
  const state = { from: null, to: null, hover: null, drag: null, off: new Set() };
  const color = (s, i) => several ? runColor(s.run) : runColor(i);
  const label = s => several ? `${report.runs[s.run].name} ${s.name}` : s.name;
  const values = spec.series.map(() => el('span', { class: 'soft' }));
  spec.series.forEach((s, i) => {
    const button = el('button', {}, swatch(color(s, i)), label(s) + ' ', values[i]);
    button.onclick = () => { state.off.has(i) ? state.off.delete(i) : state.off.add(i); button.className = state.off.has(i) ? 'off' : ''; draw(); };
    legend.append(button);
  });
  const all = spec.series.flatMap(s => s.x.length ? [s.x[0], s.x.at(-1)] : []);
  const whole = [Math.min(...all), Math.max(...all)];
  if (whole[0] === whole[1]) { whole[0] -= 1; whole[1] += 1; }
  let area = null;
  function range() { return state.from === null ? whole : [state.from, state.to]; }
  function nearest(s, x) {
    let low = 0, high = s.x.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (s.x[mid] < x) low = mid; else high = mid; }
    return Math.abs(s.x[low] - x) <= Math.abs(s.x[high] - x) ? low : high;
  }
  function draw() {
    const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width) return;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const g = canvas.getContext('2d'); g.scale(ratio, ratio);
    const [x0, x1] = range(), useLog = log.checked && positive;
    const shown = spec.series.map((s, i) => [s, i]).filter(([, i]) => !state.off.has(i));
    let y0 = Infinity, y1 = -Infinity;
    for (const [s] of shown) s.x.forEach((x, k) => {
      const near = x >= x0 && x <= x1;
      if (near && s.y[k] !== null) { y0 = Math.min(y0, s.y[k]); y1 = Math.max(y1, s.y[k]); }
    });
    if (y0 > y1) { y0 = 0; y1 = 1; }
    const t = useLog ? Math.log10 : v => v;
    let low = t(y0), high = t(y1);
    const pad = (high - low || Math.abs(high) * .1 || 1) * .06; low -= pad; high += pad;
    if (!useLog && y0 >= 0 && low < 0) low = 0;
    g.font = '11px system-ui, sans-serif';
    const yTicks = useLog ? logTicks(low, high) : ticks(low, high, 5), yText = yTicks.map(v => short(useLog ? 10 ** v : v));
    const left = Math.ceil(Math.max(...yText.map(text => g.measureText(text).width), 20)) + 8, bottom = 18, right = 8, top = 8;
    const px = x => left + (x - x0) / (x1 - x0) * (width - left - right), py = v => top + (high - v) / (high - low) * (height - top - bottom);
    area = { left, right: width - right, x0, x1 };
    g.lineWidth = 1; g.strokeStyle = css('--line'); g.fillStyle = css('--soft');
    yTicks.forEach((v, i) => { const y = Math.round(py(v)) + .5; g.beginPath(); g.moveTo(left, y); g.lineTo(width - right, y); g.stroke();
      g.textAlign = 'right'; g.textBaseline = 'middle'; g.fillText(yText[i], left - 5, y); });
    g.textBaseline = 'top'; g.textAlign = 'center';
    ticks(x0, x1, Math.max(2, Math.floor(width / 90))).forEach(v => g.fillText(short(v), Math.min(px(v), width - right - 12), height - bottom + 5));
    g.save(); g.beginPath(); g.rect(left, 0, width - left - right, height - bottom); g.clip();
    for (const [s, i] of shown) {
      g.strokeStyle = css(color(s, i)); g.fillStyle = g.strokeStyle; g.lineWidth = 1.6; g.lineJoin = 'round';
      const trace = line => { g.beginPath(); let pen = false;
        line.x.forEach((x, k) => { if (line.y[k] === null) { pen = false; return; }
          const at = [px(x), py(t(line.y[k]))]; if (pen) g.lineTo(...at); else g.moveTo(...at); pen = true; });
        g.stroke(); };
      // Of a long curve all that it reached stands pale behind its mean.
      if (s.mean) { g.globalAlpha = .25; g.lineWidth = 1; trace(s); g.globalAlpha = 1; g.lineWidth = 1.8; }
      g.setLineDash(several && s.dash ? [5, 4] : []); trace(s.mean || s); g.setLineDash([]);
      if (s.x.length < 40) s.x.forEach((x, k) => { if (s.y[k] === null) return; g.beginPath(); g.arc(px(x), py(t(s.y[k])), 2.2, 0, 7); g.fill(); });
      g.fillStyle = css('--bad');
      s.x.forEach((x, k) => { if (s.y[k] === null) g.fillRect(px(x) - 1, height - bottom - 7, 2, 7); });
    }
    if (state.drag) { const [a, b] = state.drag; g.globalAlpha = .15; g.fillStyle = css('--mark'); g.fillRect(Math.min(a, b), 0, Math.abs(b - a), height); g.globalAlpha = 1; }
    if (state.hover !== null) { g.strokeStyle = css('--soft'); g.lineWidth = 1; g.beginPath(); g.moveTo(Math.round(px(state.hover)) + .5, 0); g.lineTo(Math.round(px(state.hover)) + .5, height); g.stroke();
      for (const [all, i] of shown) { const s = all.mean || all; if (!s.x.length) continue; const k = nearest(s, state.hover); if (s.y[k] === null) continue;
        g.fillStyle = css(color(all, i)); g.beginPath(); g.arc(px(s.x[k]), py(t(s.y[k])), 3.5, 0, 7); g.fill(); } }
    g.restore();
    spec.series.forEach((all, i) => {
      const s = all.mean || all, k = state.hover === null ? s.x.length - 1 : nearest(s, state.hover);
      values[i].textContent = s.x.length ? (s.y[k] === null ? 'no number' : short(s.y[k])) + (state.hover === null ? '' : ` at ${short(s.x[k])}`) : '';
    });
  }
  const toX = at => area.x0 + (at - area.left) / (area.right - area.left) * (area.x1 - area.x0);
  canvas.onpointermove = event => { if (!area) return; const at = event.offsetX;
    state.hover = Math.min(Math.max(toX(at), area.x0), area.x1); if (state.drag) state.drag[1] = at; draw(); };
  canvas.onpointerleave = () => { state.hover = null; state.drag = null; draw(); };
  canvas.onpointerdown = event => { if (event.pointerType === 'mouse') state.drag = [event.offsetX, event.offsetX]; };
  canvas.onpointerup = () => { if (state.drag && Math.abs(state.drag[0] - state.drag[1]) > 6) {
    const [a, b] = state.drag.map(toX).sort((p, q) => p - q); state.from = Math.max(a, whole[0]); state.to = Math.min(b, whole[1]); } state.drag = null; draw(); };
  canvas.ondblclick = () => { state.from = state.to = null; draw(); };
  canvas.onkeydown = event => { if (!['ArrowLeft', 'ArrowRight', 'Escape'].includes(event.key)) return; event.preventDefault();
    if (event.key === 'Escape') { state.from = state.to = state.hover = null; } else { const [x0, x1] = range();
      state.hover = Math.min(Math.max((state.hover ?? x1) + (event.key === 'ArrowLeft' ? -1 : 1) * (x1 - x0) / 50, x0), x1); } draw(); };
  log.onchange = draw;
  new ResizeObserver(draw).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  return el('figure', {}, header, canvas, legend, spec.note ? el('figcaption', {}, spec.note) : null);
}

// ---- the page
document.title = report.runs.map(run => run.name).join(', ') + ' – shanty';
main.append(el('h1', {}, several ? `${report.runs.length} runs` : report.runs[0].name), el('p', { class: 'soft' }, `shanty ${report.version}, written ${report.written}`));
main.append(el('div', { class: 'runs' }, ...report.runs.map((run, i) => el('div', { class: 'card' },
  el('span', { class: 'state ' + run.state }, run.state),
  el('h3', {}, several ? swatch(runColor(i)) : null, run.name),
  run.best ? el('p', {}, el('span', { class: 'big' }, short(run.best.value)), ` ${run.best.name}`, el('span', { class: 'soft' }, ` best, at iteration ${short(run.best.iter)}`)) : null,
  el('p', { class: 'soft' }, run.end || ''), ...run.facts.map(([name, value]) => el('p', { class: 'soft' }, `${name}: ${value}`))))));

if (several) {
  const paths = [...new Set(report.runs.flatMap(run => run.config.map(row => row[0])))];
  const of = report.runs.map(run => new Map(run.config.map(row => [row[0], row[1]])));
  const odd = paths.filter(path => path !== 'work_dir' && new Set(of.map(values => values.get(path))).size > 1);
  section('What differs in the configs', odd.length ? table(['key', ...report.runs.map(run => run.name)], odd.map(path => [el('code', {}, path), ...of.map(values => values.get(path) ?? '–')]))
    : el('p', {}, 'Nothing: the configs are equal.'));
}
section('Curves', el('p', { class: 'soft' }, 'Over iterations. Drag to look closer, click twice to see all; a red mark is a value that was no number.'),
  report.charts.length ? el('div', { class: 'charts' }, ...report.charts.map(chart)) : el('p', {}, 'No scalars were logged.'));

function matrix(spec) {
  const most = Math.max(1, ...spec.values.flat().map(v => v ?? 0));
  const cell = (v, right) => el('td', { style: v ? `background: rgba(var(--heat), ${(.08 + .6 * (v / most)).toFixed(3)})` : '', title: right ? 'right' : '' }, v === null ? '–' : short(v));
  return el('figure', {}, el('header', {}, el('h3', {}, spec.title)), el('div', { class: 'scroll' }, el('table', { class: 'matrix' },
    el('thead', {}, el('tr', {}, el('th', {}, spec.axes ? `${spec.axes[0]} \\ ${spec.axes[1]}` : ''), ...spec.columns.map(name => el('th', { title: name }, name)))),
    el('tbody', {}, ...spec.values.map((row, i) => el('tr', {}, el('th', { title: spec.rows[i] }, spec.rows[i]), ...row.map((v, k) => cell(v, i === k))))))),
    spec.note ? el('figcaption', {}, spec.note) : null);
}
section('Tables of the last validation', report.tables.length ? el('div', {}, ...report.tables.map(matrix)) : null);

// ---- the worst samples, and what is predicted against what is true
function sample(spec) {
  const line = (name, text, extra = '') => text === null ? null : el('p', {}, el('span', { class: 'soft' }, name + ' '), el('span', { class: extra }, text));
  return el('figure', { class: 'sample' }, spec.png ? el('img', { src: 'data:image/png;base64,' + spec.png, alt: spec.name }) : null,
    line('true', spec.truth), line('predicted', spec.prediction, spec.right === null ? '' : spec.right ? 'right' : 'wrong'),
    line('loss', spec.loss === null ? 'no number' : short(spec.loss)), el('p', { class: 'soft' }, spec.name));
}
function plot(title, note, labels, paint) {
  const canvas = el('canvas', { style: 'cursor: default' });
  canvas.setAttribute('role', 'img'); canvas.setAttribute('aria-label', `${title}. ${note}`);
  const draw = () => {
    const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width) return;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const g = canvas.getContext('2d'); g.scale(ratio, ratio); g.font = '11px system-ui, sans-serif'; g.lineWidth = 1;
    const axes = (x0, x1, y0, y1) => {
      const yTicks = ticks(y0, y1, 5), left = Math.ceil(Math.max(20, ...yTicks.map(v => g.measureText(short(v)).width))) + 8, right = 10, top = 8, bottom = 30;
      const px = x => left + (x - x0) / (x1 - x0) * (width - left - right), py = y => top + (y1 - y) / (y1 - y0) * (height - top - bottom);
      g.strokeStyle = css('--line'); g.fillStyle = css('--soft'); g.textAlign = 'right'; g.textBaseline = 'middle';
      for (const v of yTicks) { const y = Math.round(py(v)) + .5; g.beginPath(); g.moveTo(left, y); g.lineTo(width - right, y); g.stroke(); g.fillText(short(v), left - 5, y); }
      g.textAlign = 'center'; g.textBaseline = 'top';
      for (const v of ticks(x0, x1, Math.max(2, Math.floor(width / 90)))) g.fillText(short(v), Math.min(px(v), width - right - 12), height - bottom + 4);
      g.fillText(labels, left + (width - left - right) / 2, height - 13);
      return { px, py };
    };
    paint(g, axes);
  };
  new ResizeObserver(draw).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  return el('figure', {}, el('header', {}, el('h3', {}, title)), canvas, el('figcaption', {}, note));
}
function residuals(spec) {
  const pairs = spec.x.map((x, i) => [x, spec.y[i]]).filter(([x, y]) => x !== null && y !== null);
  if (!pairs.length) return [];
  const all = pairs.flat(), off = pairs.map(([x, y]) => y - x);
  const spread = values => { const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b)); return low < high ? [low, high] : [low - 1, high + 1]; };
  const [low, high] = spread(all), [least, most] = spread(off);
  const mean = off.reduce((a, b) => a + b, 0) / off.length, deviation = Math.sqrt(off.reduce((a, b) => a + (b - mean) ** 2, 0) / off.length);
  const shown = pairs.length < spec.of ? `${pairs.length} of ${spec.of} samples` : `${pairs.length} samples`;
  const bins = Math.min(40, Math.max(8, Math.round(Math.sqrt(off.length)))), counts = new Array(bins).fill(0);
  for (const v of off) counts[Math.min(bins - 1, Math.floor((v - least) / (most - least) * bins))]++;
  const scatter = plot(`${spec.name}: predicted against true`, `${shown}; on the line both are equal.`, 'true', (g, axes) => {
    const pad = (high - low) * .04, { px, py } = axes(low - pad, high + pad, low - pad, high + pad);
    g.strokeStyle = css('--soft'); g.setLineDash([4, 4]); g.beginPath(); g.moveTo(px(low), py(low)); g.lineTo(px(high), py(high)); g.stroke(); g.setLineDash([]);
    g.fillStyle = css('--c0'); g.globalAlpha = .55;
    for (const [x, y] of pairs) { g.beginPath(); g.arc(px(x), py(y), 2.2, 0, 7); g.fill(); }
    g.globalAlpha = 1;
  });
  const histogram = plot(`${spec.name}: residuals`, `Predicted less true: ${short(mean)} on average, deviation ${short(deviation)}.`, 'predicted − true', (g, axes) => {
    const { px, py } = axes(least, most, 0, Math.max(...counts) * 1.05), step = (most - least) / bins;
    g.fillStyle = css('--c0');
    counts.forEach((n, i) => { const x = px(least + i * step); g.fillRect(x + .5, py(n), Math.max(1, px(least + (i + 1) * step) - x - 1), py(0) - py(n)); });
    if (least < 0 && most > 0) { g.strokeStyle = css('--fg'); g.setLineDash([4, 4]); g.beginPath(); g.moveTo(px(0), py(0)); g.lineTo(px(0), 8); g.stroke(); g.setLineDash([]); }
  });
  return [scatter, histogram];
}
section('Worst samples', ...report.samples.map(run => el('div', {}, several ? el('h3', {}, run.run) : null, el('p', { class: 'soft' }, run.note),
  el('div', { class: 'samples' }, ...run.samples.map(sample)))));
section('Predicted against true', ...report.samples.filter(run => run.residuals.length).map(run => el('div', {}, several ? el('h3', {}, run.run) : null,
  el('div', { class: 'charts' }, ...run.residuals.flatMap(residuals)))));

const head = run => several ? el('h3', {}, run.name) : null;
const each = make => report.runs.map(run => { const body = make(run); return body && el('div', {}, head(run), body); });
section('Warnings', ...each(run => run.warnings.length ? el('ul', {}, ...run.warnings.map(text => el('li', {}, text))) : null));
section('Checkpoints', ...each(run => run.checkpoints.length ? table(['name', 'iteration', 'size'], run.checkpoints, [1, 2]) : null));
section('Time of hooks', ...each(run => run.hooks.length ? table(['hook', 'point', 'seconds', 'µs a call'], run.hooks, [2, 3]) : null));
section('Environment', ...each(run => run.environment.length ? el('pre', {}, run.environment.join('\n')) : null));
section('Config', ...each(run => {
  if (!run.config.length) return null;
  const places = run.config.some(row => row[2]);
  const search = el('input', { type: 'search', placeholder: 'a part of a key or value' });
  search.setAttribute('aria-label', 'search the config');
  const box = el('div', {});
  const fill = () => { const wanted = search.value.toLowerCase(); box.replaceChildren(table(places ? ['key', 'value', 'from'] : ['key', 'value'],
    run.config.filter(row => (row[0] + ' ' + row[1]).toLowerCase().includes(wanted)).map(row => [el('code', {}, row[0]), row[1], ...(places ? [row[2]] : [])]))); };
  search.oninput = fill; fill();
  return el('details', { open: !several }, el('summary', {}, `${run.config.length} values`), search, box);
}));
