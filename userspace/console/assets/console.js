// The console's own behaviour: what follows by itself, keys, times that count down, replay.
(() => {
  'use strict';
  const at = (id) => document.getElementById(id);

  // The inbox follows the node; every page shows how many requests wait.
  let events;
  function follow() {
    events = new EventSource('/events');
    events.addEventListener('inbox', (event) => {
      const waiting = Number(event.data) || 0;
      const badge = at('waiting');
      if (badge) {
        badge.textContent = String(waiting);
        badge.hidden = waiting === 0;
      }
      document.title = document.title.replace(/^\(\d+\) /, '');
      if (waiting > 0) document.title = `(${waiting}) ${document.title}`;
      if (at('live')) at('live').hidden = false;
      if (at('inbox')) window.htmx.trigger(document.body, 'inbox');
    });
    events.onerror = () => { if (at('live')) at('live').hidden = true; };
  }

  // A list is not replaced under a finger: the link that was pressed would be gone before it is
  // let go, and the click with it. What has the focus keeps it.
  function lists() {
    let pressed = false;
    let late = false;
    let focused = null;
    const letGo = () => {
      pressed = false;
      // Behind the click.
      if (late) setTimeout(() => window.htmx.trigger(document.body, 'inbox'), 0);
      late = false;
    };
    document.addEventListener('pointerdown', () => { pressed = true; }, true);
    for (const end of ['pointerup', 'pointercancel', 'dragend']) document.addEventListener(end, letGo, true);
    document.body.addEventListener('htmx:beforeSwap', (event) => {
      const list = event.detail.target;
      if (!list.hasAttribute('data-list')) return;
      const here = document.activeElement;
      focused = list.contains(here) ? here.getAttribute('href') : null;
      if (!pressed) return;
      event.detail.shouldSwap = false;
      late = list.id === 'inbox';
    });
    document.body.addEventListener('htmx:afterSwap', (event) => {
      const list = event.detail.target;
      const again = focused && list.hasAttribute('data-list') && list.querySelector(`a[href="${CSS.escape(focused)}"]`);
      if (again) again.focus({ preventScroll: true });
    });
  }

  function span(seconds) {
    if (seconds < 100) return `${Math.max(0, seconds)} s`;
    if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
    return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  }
  function count() {
    for (const time of document.querySelectorAll('time[data-until]')) {
      time.textContent = span(Math.floor((Number(time.dataset.until) - Date.now()) / 1000));
    }
  }

  // j and k move, g and a letter goes, / searches, w writes.
  let going = false;
  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const here = document.activeElement;
    if (here && /^(INPUT|TEXTAREA|SELECT)$/.test(here.tagName)) {
      if (event.key === 'Escape') here.blur();
      return;
    }
    if (going) {
      going = false;
      const to = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (to) to.click();
      return;
    }
    const go = (selector) => {
      const found = document.querySelector(selector);
      if (found) {
        event.preventDefault();
        found.focus();
      }
    };
    if (event.key === 'g') going = true;
    else if (event.key === '/') go('[data-search]');
    else if (event.key === 'w') go('[data-word]');
    else if (event.key === 'j' || event.key === 'k') {
      const all = [...document.querySelectorAll('[data-move]')];
      const now = all.indexOf(here);
      const next = event.key === 'j' ? now + 1 : Math.max(now, 1) - 1;
      if (all[next]) all[next].focus();
    }
  }

  // A transcript again, in its own time; pauses are cut to two seconds.
  function replay() {
    const lines = [...document.querySelectorAll('#transcript > li')];
    const button = at('play');
    let timer;
    let next = 0;
    const stop = () => {
      clearTimeout(timer);
      timer = undefined;
      button.textContent = 'Replay';
      for (const line of lines) {
        line.hidden = false;
        line.classList.remove('now');
      }
      at('clock').textContent = '';
    };
    const step = () => {
      if (next > 0) lines[next - 1].classList.remove('now');
      if (next >= lines.length) return stop();
      const line = lines[next];
      line.hidden = false;
      line.classList.add('now');
      line.scrollIntoView({ block: 'nearest' });
      const after = Number(line.dataset.after);
      at('clock').textContent = `+${(after / 1000).toFixed(1)} s`;
      next += 1;
      const gap = next < lines.length ? Number(lines[next].dataset.after) - after : 400;
      timer = setTimeout(step, Math.min(2000, Math.max(40, gap / Number(at('speed').value))));
      return undefined;
    };
    button.addEventListener('click', () => {
      if (timer) return stop();
      next = 0;
      for (const line of lines) line.hidden = true;
      button.textContent = 'Show all';
      return step();
    });
  }

  document.addEventListener('keydown', key);
  setInterval(count, 1000);
  lists();
  window.addEventListener('pagehide', () => events && events.close());
  if (at('waiting')) follow();
  if (at('play')) replay();
  const terminal = at('terminal');
  if (terminal && window.AsciinemaPlayer) {
    window.AsciinemaPlayer.create(terminal.dataset.cast, terminal, { fit: 'width', idleTimeLimit: 2, preload: true });
  }
})();
