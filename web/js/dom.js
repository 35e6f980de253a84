// Builds elements without markup in strings, because file names are untrusted text.

/** An element of `tag`; `on*` properties are listeners, `null` and `false` leave an attribute out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Show `text` in a notice, or hide it when there is none. */
export function notice(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}
