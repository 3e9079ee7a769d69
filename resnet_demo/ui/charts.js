// Line charts as SVG: drawn from the data that plots.py makes, in an element of `line_chart`.
// Names in the data may be anybody's text: they are set as text, never as HTML.
(() => {
  const SVG = 'http://www.w3.org/2000/svg';
  const MARGIN = {top: 6, right: 14, bottom: 40, left: 48};
  const MAX_MARKS = 60;  // points of a line that are drawn as dots
  const DEFAULTS = {smoothing: 0.6, log: {}, zoom: {}};
  const STORE = 'resnet-demo-charts';  // one choice for all charts of this browser

  function loadSettings() {
    try {
      return {...DEFAULTS, ...JSON.parse(localStorage.getItem(STORE))};
    } catch (error) {
      return structuredClone(DEFAULTS);  // storage may be blocked
    }
  }

  function saveSettings(settings) {
    try {
      localStorage.setItem(STORE, JSON.stringify(settings));
    } catch (error) {
      console.debug('charts', error);
    }
  }

  function node(parent, name, attributes = {}, text) {
    const isSvg = parent.namespaceURI === SVG || name === 'svg';
    const made = isSvg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  }

  // Numbers and axes.

  const decimals = (step) => Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));

  function tickText(value, step) {
    if (value === 0) return '0';
    if (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)
      return value.toExponential(2).replace(/\.?0*e\+?/, 'e');
    return value.toFixed(decimals(step));
  }

  function valueText(value, unit = '') {
    if (unit === ' %') return value.toFixed(2) + unit;  // as in the table of epochs
    if (value && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(2) + unit;
    return String(Number(value.toPrecision(4))) + unit;
  }

  function linearTicks(low, high, most) {
    const least = (high - low) / Math.max(1, most);
    const power = 10 ** Math.floor(Math.log10(least));
    const step = power * [1, 2, 5, 10].find((digit) => digit * power >= least * 0.9999);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-6); i * step <= high + step * 1e-6; i++)
      ticks.push(i * step);
    return ticks.map((value) => ({value, text: tickText(value, step)}));
  }

  function logTicks(low, high, most) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const layouts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5], [1, 2, 5], [1]].map((all) => [all, 1]);
    for (let every = 2; every <= last - first + 1; every++) layouts.push([[1], every]);
    for (const [digits, every] of layouts) {
      const ticks = [];
      for (let power = first; power <= last; power++)
        if (power % every === 0)
          for (const digit of digits) {
            const value = digit * 10 ** power;
            if (value >= low * 0.9999 && value <= high * 1.0001)
              ticks.push({value, text: tickText(value, 10 ** power)});
          }
      if (ticks.length <= most) return ticks.length > 1 ? ticks : linearTicks(low, high, most);
    }
    return [];
  }

  // An axis of `length` pixels. `room(texts)`: the pixels that each tick needs.
  function axis({low, high, log}, length, room) {
    const at = log ? Math.log10 : (value) => value;
    const span = at(high) - at(low) || 1;
    const place = (value) => ((at(value) - at(low)) / span) * length;
    // The ticks that have enough room, without those too close to the one before.
    const apart = (all) => {
      const need = room(all.map((tick) => tick.text));
      let last = -Infinity;
      return all.filter(({value}) => place(value) - last >= need && (last = place(value), true));
    };
    let ticks = [];
    for (let most = Math.max(2, Math.floor(length / 24)); most >= 1; most--) {
      const all = log ? logTicks(low, high, most) : linearTicks(low, high, most);
      ticks = apart(all);
      if (ticks.length === all.length) break;
    }
    const value = (pixel) => {
      const inner = at(low) + (pixel / length) * span;
      return log ? 10 ** inner : inner;
    };
    return {place, value, ticks, low, high, log};
  }

  const letters = (texts) => 7 * Math.max(...texts.map((text) => text.length), 1) + 14;

  // Points are [x, y], or [x, mean, lowest, highest] of several steps.

  // Exponential moving average without its bias toward zero.
  function smooth(points, weight) {
    let sum = 0, share = 0;
    return points.map(([x, y]) => {
      if (y === null) return [x, y];
      sum = sum * weight + y * (1 - weight);
      share = share * weight + (1 - weight);
      return [x, sum / share];
    });
  }

  function quantiles(values, low, high) {
    const sorted = [...values].sort((a, b) => a - b);
    const at = (share) => sorted[Math.round((sorted.length - 1) * share)];
    return [at(low), at(high)];
  }

  function yDomain(plot, lines, log, zoom) {
    const isDrawable = (y) => y !== null && (!log || y > 0);
    if (plot.y && !zoom && !log) return {low: plot.y[0], high: plot.y[1], log};
    let low = Infinity, high = -Infinity;
    for (const line of lines) {
      // Zoomed in, the few outliers of single batches are cut off.
      const values = (zoom ? line.shown.map((point) => point[1]) : line.points
        .flatMap((point) => point.slice(1))).filter(isDrawable);
      if (!values.length) continue;
      const [least, most] = quantiles(values, zoom ? 0.02 : 0, zoom ? 0.98 : 1);
      low = Math.min(low, least);
      high = Math.max(high, most);
    }
    if (!(low <= high)) return log ? {low: 0.1, high: 1, log} : {low: 0, high: 1, log};
    if (log) {
      const pad = Math.max(0.02, 0.04 * Math.log10(high / low));
      return {low: low / 10 ** pad, high: high * 10 ** pad, log};
    }
    if (!zoom && low >= 0) low = 0;
    const pad = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
    return {low: low === 0 ? 0 : low - pad, high: high + pad, log};
  }

  function xDomain(x, lines, zoom) {
    const values = lines.flatMap((line) => line.points.map((point) => point[0]));
    const isWhole = !zoom && x.max !== undefined && x.max !== null;
    let low = x.log || zoom ? Math.min(...values) : Math.min(0, ...values);
    let high = Math.max(isWhole ? x.max : -Infinity, ...values);
    if (!Number.isFinite(low) || (x.log && low <= 0)) low = x.log ? 1e-3 : 0;
    if (!Number.isFinite(high) || high <= low) high = low + (x.log ? low : 1);
    return {low, high, log: Boolean(x.log)};
  }

  function pathOf(points, x, y) {
    let path = '', isOpen = false;
    for (const [px, py] of points) {
      const isGap = py === null || (y.log && py <= 0);
      if (!isGap)
        path += `${isOpen ? 'L' : 'M'}${x.place(px).toFixed(1)},${y.place(py).toFixed(1)}`;
      isOpen = !isGap;
    }
    return path;
  }

  function nearest(points, x) {
    let best = null;
    for (const point of points)
      if (point[1] !== null && (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x)))
        best = point;
    return best;
  }

  class LineChart {
    constructor(holder) {
      this.holder = holder;
      this.settings = loadSettings();
      this.plots = new Map();
      this.bar = node(holder, 'div', {class: 'chart-bar', hidden: ''});
      this.grid = node(holder, 'div', {class: 'chart-grid'});
      this.tip = node(holder, 'div', {class: 'chart-tip', hidden: ''});
      this.slider();
      new ResizeObserver(() => this.draw()).observe(holder);
    }

    slider() {
      const label = node(this.bar, 'label', {}, 'Smoothing');
      const input = node(label, 'input', {type: 'range', min: 0, max: 0.98, step: 0.02});
      const shown = node(label, 'output');
      input.value = this.settings.smoothing;
      shown.textContent = Number(input.value).toFixed(2);
      input.addEventListener('input', () => {
        shown.textContent = Number(input.value).toFixed(2);
        this.change({smoothing: Number(input.value)});
      });
    }

    change(settings) {
      Object.assign(this.settings, settings);
      saveSettings(this.settings);
      this.draw();
    }

    update(data) {
      if (!data || !Array.isArray(data.plots)) return;
      this.data = data;
      const keys = data.plots.map((plot) => plot.key);
      if (keys.join() !== [...this.plots.keys()].join()) {
        this.grid.replaceChildren();
        this.plots = new Map(data.plots.map((plot) => [plot.key, this.figure(plot)]));
      }
      const isSmoothed = data.plots.some((plot) => plot.lines.some((line) => line.smooth));
      this.bar.hidden = !isSmoothed;
      this.draw();
    }

    // The parts of a plot that stay while its data changes.
    figure(plot) {
      const figure = node(this.grid, 'figure', {class: 'chart', 'data-plot': plot.key});
      if (plot.wide) figure.classList.add('chart-wide');
      const head = node(figure, 'figcaption');
      const title = node(head, 'b', {}, plot.title);
      const buttons = node(head, 'span', {class: 'chart-buttons'});
      const parts = {figure, title, legend: node(head, 'span', {class: 'chart-legend'})};
      const toggle = (kind, text, help) => {
        const button = node(buttons, 'button', {type: 'button', title: help}, text);
        // It begins with the text on the button: a spoken command names what is seen.
        button.setAttribute('aria-label', `${text}: ${plot.title}, ${help}`);
        button.addEventListener('click', () => {
          const all = this.settings[kind];
          this.change({[kind]: {...all, [plot.key]: !this.isOn(kind, plot)}});
        });
        parts[kind] = button;
      };
      if (plot.log) toggle('log', 'Log', 'logarithmic scale');
      toggle('zoom', 'Zoom', 'fit the axes to the curves');
      parts.svg = node(figure, 'svg', {class: 'chart-svg', tabindex: 0});
      parts.note = node(figure, 'p', {class: 'chart-note'});
      const svg = parts.svg;
      svg.addEventListener('pointermove', (event) => this.point(plot.key, event));
      svg.addEventListener('pointerdown', (event) => this.point(plot.key, event));
      svg.addEventListener('pointerleave', () => this.leave());
      svg.addEventListener('blur', () => this.leave());
      svg.addEventListener('keydown', (event) => this.press(plot.key, event));
      return parts;
    }

    isOn(kind, plot) {
      return Boolean(this.settings[kind][plot.key] ?? (kind === 'log' && plot.log === 'first'));
    }

    draw() {
      if (!this.data || !this.holder.clientWidth) return;  // hidden: drawn when it is shown
      for (const plot of this.data.plots) this.drawPlot(plot, this.plots.get(plot.key));
      this.drawCursor();
    }

    drawPlot(plot, parts) {
      const log = Boolean(plot.log && this.isOn('log', plot));
      const zoom = this.isOn('zoom', plot);
      parts.log?.setAttribute('aria-pressed', log);
      parts.zoom.setAttribute('aria-pressed', zoom);
      parts.title.textContent = plot.title;
      const weight = this.settings.smoothing;
      const lines = plot.lines.map((line) => ({
        ...line, shown: line.smooth ? smooth(line.points, weight) : line.points,
      }));
      const width = Math.max(160, parts.figure.clientWidth), height = plot.height;
      const inner = {
        width: width - MARGIN.left - MARGIN.right,
        height: height - MARGIN.top - MARGIN.bottom,
      };
      const x = axis(xDomain(this.data.x, lines, zoom), inner.width, letters);
      const yLow = yDomain(plot, lines, log, zoom);
      const y = axis(yLow, inner.height, () => 22);
      const up = {...y, place: (value) => inner.height - y.place(value)};
      Object.assign(parts, {lines, x, y: up, inner});

      const svg = parts.svg;
      svg.setAttribute('width', width);
      svg.setAttribute('height', height);
      svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
      svg.replaceChildren();
      const group = node(svg, 'g', {transform: `translate(${MARGIN.left},${MARGIN.top})`});
      for (const tick of up.ticks) {
        const at = up.place(tick.value);
        node(group, 'line', {class: 'chart-rule', x1: 0, x2: inner.width, y1: at, y2: at});
        node(group, 'text', {class: 'chart-y', x: -7, y: at + 4}, tick.text);
      }
      for (const tick of x.ticks) {
        const at = x.place(tick.value);
        node(group, 'line', {class: 'chart-rule', x1: at, x2: at, y1: 0, y2: inner.height});
        node(group, 'text', {class: 'chart-x', x: at, y: inner.height + 18}, tick.text);
      }
      const middle = {class: 'chart-x', x: inner.width / 2, y: inner.height + 35};
      node(group, 'text', middle, this.data.x.title);
      // A nested svg cuts off what lies outside of the axes, but for half a dot.
      const box = [-5, -5, inner.width + 10, inner.height + 10];
      const frame = {x: box[0], y: box[1], width: box[2], height: box[3], viewBox: box.join(' ')};
      const area = node(group, 'svg', frame);
      for (const line of lines) this.drawLine(area, line, x, up, weight);
      parts.cursor = node(group, 'g');
      this.describe(plot, parts);
    }

    drawLine(area, line, x, y, weight) {
      const stroke = {fill: 'none', stroke: line.colour, 'stroke-linejoin': 'round'};
      const spread = line.points.filter((point) => point.length > 2 && (!y.log || point[2] > 0));
      const edges = [
        ...spread.map(([px, , , high]) => [px, high]),
        ...spread.map(([px, , low]) => [px, low]).reverse(),
      ];
      if (edges.length)
        node(area, 'path', {class: 'chart-band', d: `${pathOf(edges, x, y)}Z`, fill: line.colour});
      else if (line.smooth && weight > 0)
        node(area, 'path', {class: 'chart-raw', d: pathOf(line.points, x, y), ...stroke});
      const path = {class: 'chart-line', 'data-line': line.name, d: pathOf(line.shown, x, y)};
      node(area, 'path', {...path, ...stroke});
      const real = line.shown.filter((point) => point[1] !== null && (!y.log || point[1] > 0));
      if (real.length === 1 || (line.marks && real.length <= MAX_MARKS))
        for (const [px, py] of real) {
          const dot = {class: 'chart-dot', cx: x.place(px), cy: y.place(py), r: 3};
          node(area, 'circle', {...dot, fill: line.colour});
        }
    }

    describe(plot, parts) {
      parts.legend.replaceChildren();
      const last = (line) => line.shown.findLast((point) => point[1] !== null);
      const described = [];
      for (const line of parts.lines) {
        const point = last(line), value = point ? valueText(point[1], plot.unit) : '–';
        if (parts.lines.length > 1) {
          const entry = node(parts.legend, 'span');
          node(entry, 'i').style.background = line.colour;
          entry.append(`${line.name} `);
          node(entry, 'strong', {}, value);
        }
        if (point) described.push(`${line.name} ${value} at ${this.data.x.title} ${valueText(point[0])}`);
      }
      parts.note.textContent = plot.note ?? '';
      parts.note.hidden = !plot.note;
      const text = `${plot.title}: ${described.join(', ') || 'no data yet'}`;
      parts.svg.setAttribute('aria-label', text);
      const steps = this.positions(parts);
      parts.svg.setAttribute('role', steps.length ? 'slider' : 'img');
      if (steps.length) {
        parts.svg.setAttribute('aria-valuemin', 0);
        parts.svg.setAttribute('aria-valuemax', steps.length - 1);
        const now = this.cursor?.index ?? steps.length - 1;
        parts.svg.setAttribute('aria-valuenow', Math.min(now, steps.length - 1));
      } else for (const name of ['min', 'max', 'now', 'text'])
        parts.svg.removeAttribute(`aria-value${name}`);
    }

    // Reading values: by pointer, or by the arrow keys.

    positions(parts) {
      const {points} = parts.lines.reduce((a, b) => (b.points.length > a.points.length ? b : a));
      return points.filter((point) => point[1] !== null).map((point) => point[0]);
    }

    point(key, event) {
      const parts = this.plots.get(key), box = parts.svg.getBoundingClientRect();
      const steps = this.positions(parts);
      if (!steps.length) return;
      const wanted = parts.x.value(event.clientX - box.left - MARGIN.left);
      const distance = (i) => Math.abs(steps[i] - wanted);
      const index = steps.reduce((best, _, i) => (distance(i) < distance(best) ? i : best), 0);
      this.show(key, steps, index);
    }

    press(key, event) {
      const steps = this.positions(this.plots.get(key));
      const last = steps.length - 1, now = this.cursor?.index ?? last;
      const moves = {
        ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
        PageDown: now - 10, PageUp: now + 10, Home: 0, End: last,
      };
      if (event.key === 'Escape') this.leave();
      if (!(event.key in moves) || last < 0) return;
      event.preventDefault();
      this.show(key, steps, Math.min(last, Math.max(0, moves[event.key])));
    }

    show(key, steps, index) {
      this.cursor = {key, index, x: steps[index]};
      this.drawCursor();
    }

    leave() {
      this.cursor = null;
      this.drawCursor();
    }

    drawCursor() {
      for (const parts of this.plots.values()) parts.cursor?.replaceChildren();
      this.tip.hidden = !this.cursor;
      if (!this.cursor) return;
      const {key, x} = this.cursor;
      for (const parts of this.plots.values()) {
        const at = parts.x.place(x);
        if (at < 0 || at > parts.inner.width) continue;
        const ends = {x1: at, x2: at, y1: 0, y2: parts.inner.height};
        node(parts.cursor, 'line', {class: 'chart-cursor', ...ends});
        for (const line of parts.lines) {
          const point = nearest(line.shown, x);
          if (!point || (parts.y.log && point[1] <= 0)) continue;
          const dot = {cx: parts.x.place(point[0]), cy: parts.y.place(point[1]), r: 4};
          node(parts.cursor, 'circle', {...dot, fill: line.colour});
        }
      }
      this.fillTip(this.plots.get(key), this.data.plots.find((plot) => plot.key === key));
    }

    fillTip(parts, plot) {
      const {x: at, index} = this.cursor, {x, name} = this.data;
      this.tip.replaceChildren();
      if (name) node(this.tip, 'b', {}, name);
      const step = x.steps ? `, step ${Math.round(at * x.steps).toLocaleString('en')}` : '';
      node(this.tip, 'div', {}, `${x.title} ${valueText(at)}${step}`);
      for (const line of parts.lines) {
        const point = nearest(line.shown, at);
        if (!point) continue;
        const row = node(this.tip, 'div');
        node(row, 'i').style.background = line.colour;
        const own = line.points.find((one) => one[0] === point[0]);
        const isSmoothed = line.smooth && own[1] !== point[1];
        const raw = isSmoothed ? ` (raw ${valueText(own[1], plot.unit)})` : '';
        const where = point[0] === at ? '' : ` at ${x.title} ${valueText(point[0])}`;
        row.append(`${line.name} `);
        node(row, 'strong', {}, valueText(point[1], plot.unit));
        row.append(raw + where);
      }
      parts.svg.setAttribute('aria-valuenow', index);
      const spoken = [...this.tip.children].map((child) => child.textContent).join(', ');
      parts.svg.setAttribute('aria-valuetext', spoken);
      const box = parts.svg.getBoundingClientRect(), outer = this.holder.getBoundingClientRect();
      const left = box.left - outer.left + MARGIN.left + parts.x.place(at);
      const isRight = left > outer.width / 2;
      const shift = isRight ? -this.tip.offsetWidth - 12 : 12;
      const most = outer.width - this.tip.offsetWidth;
      this.tip.style.left = `${Math.max(0, Math.min(most, left + shift))}px`;
      this.tip.style.top = `${box.top - outer.top + MARGIN.top + 4}px`;
    }
  }

  window.lineChart = (element, props, watch) => {
    const chart = new LineChart(element.querySelector('.line-chart'));
    const update = () => chart.update(JSON.parse(JSON.stringify(props.value ?? null)));
    watch('value', update);
    update();
  };
})();
