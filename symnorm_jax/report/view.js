"use strict";
const one = (id) => document.getElementById(id);
const given = JSON.parse(one("data").textContent);

async function show() {
  const { Niivue, NVImage, DRAG_MODE, SHOW_RENDER } = niivue;
  const viewer = new Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.45, 0.9, 0.5, 0.8], crosshairWidth: 0.7, crosshairWidthUnit: "mm", crosshairGap: 4,
    dragAndDropEnabled: false, dragMode: DRAG_MODE.none, fontMinPx: 15, fontColor: [1, 1, 1, 1], logLevel: "error",
    multiplanarShowRender: SHOW_RENDER.NEVER, multiplanarPadPixels: 4, showAllOrientationMarkers: true,
    isSliceMM: true,  // else places of scans that were taken at a tilt would be off
    viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", loadingText: "",
  });
  await viewer.attachToCanvas(one("planes"));
  const look = { opacity: 1, cal_min: 0, cal_max: 255, trustCalMinMax: true, colorbarVisible: false };
  viewer.addVolume(await NVImage.loadFromBase64({ base64: given.scan, name: "scan.nii.gz", colormap: "gray", ...look }));
  if (given.over) await overlay(viewer, NVImage);
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  viewer.onLocationChange = tell;
  one("radiological").onchange = (event) => viewer.setRadiologicalConvention(event.target.checked);
  for (const button of document.querySelectorAll("[data-blob]")) {
    button.disabled = false;
    button.onclick = () => jump(viewer, given.peaks[button.dataset.blob]);
  }
  if (given.peaks.length) jump(viewer, given.peaks[0]);
  else viewer.createOnLocationChange();
}

async function overlay(viewer, NVImage) {
  const strongest = given.strongest || 1;
  const look = { colormap: "warm", colormapNegative: "winter", cal_max: strongest, trustCalMinMax: true };
  const map = await NVImage.loadFromBase64({ base64: given.over, name: "map.nii.gz", ...look, cal_min: 0 });
  map.colormapType = 2;  // colours begin at 0; below the threshold is nothing, where 1 would let it fade out
  viewer.addVolume(map);
  const draw = () => {
    map.cal_min = Number(one("threshold").value);
    map.opacity = Number(one("opacity").value);
    one("limit").textContent = map.cal_min.toPrecision(3);
    viewer.updateGLVolume();
  };
  one("threshold").max = strongest;
  one("threshold").step = strongest / 400;
  one("threshold").value = given.threshold ?? strongest / 2;
  one("threshold").oninput = one("opacity").oninput = draw;
  draw();
}

function jump(viewer, mm) {
  viewer.scene.crosshairPos = viewer.mm2frac(mm);
  viewer.createOnLocationChange();
  viewer.drawScene();
}

function tell(place) {
  const sides = [["left", "right"], ["posterior", "anterior"], ["inferior", "superior"]];
  const where = sides.map((names, axis) => `${names[place.mm[axis] < 0 ? 0 : 1]} ${Math.abs(place.mm[axis]).toFixed(1)}`);
  const value = given.over ? `; map ${place.values[1].value.toPrecision(3)}` : "";
  one("place").textContent = `${where.join(", ")} mm${value}`;
}

if (document.createElement("canvas").getContext("webgl2")) {
  one("still").hidden = true;
  one("viewer").hidden = false;
  show().catch((error) => {
    one("viewer").hidden = true;
    one("still").hidden = false;
    one("why").textContent = `The viewer stopped: ${error.message}`;
  });
}
