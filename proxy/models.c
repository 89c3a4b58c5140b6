#include "proxy/models.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define BASE	 "@jupyter-widgets/base"
#define CONTROLS "@jupyter-widgets/controls"
#define OUTPUT	 "@jupyter-widgets/output"

/* clang-format off */
static const struct model models[] = {
	{BASE, "DOMWidgetModel", NULL, NULL, TRAIT_QUANTITY, MODELS_PLAIN},
	{BASE, "LayoutModel", BASE, "LayoutView", TRAIT_QUANTITY, MODELS_LAYOUT},
	{BASE, "StyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{BASE, "WidgetModel", NULL, NULL, TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "AccordionModel", CONTROLS, "AccordionView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "AudioModel", CONTROLS, "AudioView", TRAIT_BINARY, MODELS_PLAIN},
	{CONTROLS, "BoolModel", CONTROLS, NULL, TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "BoundedFloatTextModel", CONTROLS, "FloatTextView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "BoundedIntTextModel", CONTROLS, "IntTextView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "BoxModel", CONTROLS, "BoxView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ButtonModel", CONTROLS, "ButtonView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ButtonStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "CheckboxModel", CONTROLS, "CheckboxView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "CheckboxStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "ColorPickerModel", CONTROLS, "ColorPickerView", TRAIT_COLOR, MODELS_PLAIN},
	{CONTROLS, "ColorsInputModel", CONTROLS, "ColorsInputView", TRAIT_COLORS, MODELS_PLAIN},
	{CONTROLS, "ComboboxModel", CONTROLS, "ComboboxView", TRAIT_RAW, MODELS_PLAIN},
	{CONTROLS, "ControllerAxisModel", CONTROLS, "ControllerAxisView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ControllerButtonModel", CONTROLS, "ControllerButtonView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ControllerModel", CONTROLS, "ControllerView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "DatePickerModel", CONTROLS, "DatePickerView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "DatetimeModel", CONTROLS, "DatetimeView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "DescriptionModel", CONTROLS, NULL, TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "DescriptionStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "DirectionalLinkModel", CONTROLS, NULL, TRAIT_QUANTITY, MODELS_ARROW},
	{CONTROLS, "DOMWidgetModel", CONTROLS, NULL, TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "DropdownModel", CONTROLS, "DropdownView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "FileUploadModel", CONTROLS, "FileUploadView", TRAIT_FILES, MODELS_PLAIN},
	{CONTROLS, "FloatLogSliderModel", CONTROLS, "FloatLogSliderView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "FloatProgressModel", CONTROLS, "ProgressView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "FloatRangeSliderModel", CONTROLS, "FloatRangeSliderView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "FloatsInputModel", CONTROLS, "FloatsInputView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "FloatSliderModel", CONTROLS, "FloatSliderView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "FloatTextModel", CONTROLS, "FloatTextView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "GridBoxModel", CONTROLS, "GridBoxView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "HBoxModel", CONTROLS, "HBoxView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "HTMLMathModel", CONTROLS, "HTMLMathView", TRAIT_HTML, MODELS_PLAIN},
	{CONTROLS, "HTMLMathStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "HTMLModel", CONTROLS, "HTMLView", TRAIT_HTML, MODELS_PLAIN},
	{CONTROLS, "HTMLStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "ImageModel", CONTROLS, "ImageView", TRAIT_BINARY, MODELS_PLAIN},
	{CONTROLS, "IntProgressModel", CONTROLS, "ProgressView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "IntRangeSliderModel", CONTROLS, "IntRangeSliderView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "IntsInputModel", CONTROLS, "IntsInputView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "IntSliderModel", CONTROLS, "IntSliderView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "IntTextModel", CONTROLS, "IntTextView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "LabelModel", CONTROLS, "LabelView", TRAIT_TEXT, MODELS_PLAIN},
	{CONTROLS, "LabelStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "LinkModel", CONTROLS, NULL, TRAIT_QUANTITY, MODELS_LINK},
	{CONTROLS, "NaiveDatetimeModel", CONTROLS, "DatetimeView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "NumbersInputBaseModel", CONTROLS, "TagsInputView", TRAIT_TEXTS, MODELS_PLAIN},
	{CONTROLS, "PasswordModel", CONTROLS, "PasswordView", TRAIT_RAW, MODELS_PLAIN},
	{CONTROLS, "PlayModel", CONTROLS, "PlayView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ProgressStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "RadioButtonsModel", CONTROLS, "RadioButtonsView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "SelectionRangeSliderModel", CONTROLS, "SelectionRangeSliderView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "SelectionSliderModel", CONTROLS, "SelectionSliderView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "SelectModel", CONTROLS, "SelectView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "SelectMultipleModel", CONTROLS, "SelectMultipleView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "SliderStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "StackModel", CONTROLS, "StackView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "StringModel", CONTROLS, NULL, TRAIT_RAW, MODELS_PLAIN},
	{CONTROLS, "StringStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "TabModel", CONTROLS, "TabView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "TagsInputBaseModel", CONTROLS, NULL, TRAIT_TEXTS, MODELS_PLAIN},
	{CONTROLS, "TagsInputModel", CONTROLS, "TagsInputView", TRAIT_TEXTS, MODELS_PLAIN},
	{CONTROLS, "TextareaModel", CONTROLS, "TextareaView", TRAIT_RAW, MODELS_PLAIN},
	{CONTROLS, "TextModel", CONTROLS, "TextView", TRAIT_RAW, MODELS_PLAIN},
	{CONTROLS, "TextStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "TimeModel", CONTROLS, "TimeView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ToggleButtonModel", CONTROLS, "ToggleButtonView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ToggleButtonsModel", CONTROLS, "ToggleButtonsView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "ToggleButtonsStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "ToggleButtonStyleModel", BASE, "StyleView", TRAIT_QUANTITY, MODELS_STYLE},
	{CONTROLS, "ValidModel", CONTROLS, "ValidView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "VBoxModel", CONTROLS, "VBoxView", TRAIT_QUANTITY, MODELS_PLAIN},
	{CONTROLS, "VideoModel", CONTROLS, "VideoView", TRAIT_BINARY, MODELS_PLAIN},
	{CONTROLS, "WidgetModel", CONTROLS, NULL, TRAIT_QUANTITY, MODELS_PLAIN},
	{OUTPUT, "OutputModel", OUTPUT, "OutputView", TRAIT_QUANTITY, MODELS_PLAIN},
};

/* In the order of strcmp(). The same name means the same in all models but for `value` and
 * `format`. */
static const struct row {
	const char *name;
	enum trait trait;
} rows[] = {
	{"_counter", TRAIT_QUANTITY},
	{"_dom_classes", TRAIT_CLASSES},
	{"_model_module", TRAIT_MODEL_MODULE},
	{"_model_module_version", TRAIT_VERSION},
	{"_model_name", TRAIT_MODEL_NAME},
	{"_options_labels", TRAIT_TEXTS},
	{"_playing", TRAIT_QUANTITY},
	{"_repeat", TRAIT_QUANTITY},
	{"_titles", TRAIT_TEXTS},
	{"_view_count", TRAIT_QUANTITY},
	{"_view_module", TRAIT_VIEW_MODULE},
	{"_view_module_version", TRAIT_VERSION},
	{"_view_name", TRAIT_VIEW_NAME},
	{"accept", TRAIT_ACCEPT},
	{"align_content", TRAIT_WORD},
	{"align_items", TRAIT_WORD},
	{"align_self", TRAIT_WORD},
	{"allow_duplicates", TRAIT_QUANTITY},
	{"allowed_tags", TRAIT_TEXTS},
	{"autoplay", TRAIT_QUANTITY},
	{"axes", TRAIT_CHILDREN},
	{"background", TRAIT_CSS},
	{"bar_color", TRAIT_COLOR},
	{"bar_style", TRAIT_WORD},
	{"base", TRAIT_QUANTITY},
	{"behavior", TRAIT_WORD},
	{"border", TRAIT_CSS},
	{"border_bottom", TRAIT_CSS},
	{"border_left", TRAIT_CSS},
	{"border_right", TRAIT_CSS},
	{"border_top", TRAIT_CSS},
	{"bottom", TRAIT_CSS},
	{"box_style", TRAIT_WORD},
	{"button_color", TRAIT_COLOR},
	{"button_style", TRAIT_WORD},
	{"button_width", TRAIT_CSS},
	{"buttons", TRAIT_CHILDREN},
	{"children", TRAIT_CHILDREN},
	{"concise", TRAIT_QUANTITY},
	{"connected", TRAIT_QUANTITY},
	{"continuous_update", TRAIT_QUANTITY},
	{"controls", TRAIT_QUANTITY},
	{"data", TRAIT_FILES},
	{"description", TRAIT_TEXT},
	{"description_allow_html", TRAIT_FALSE},
	{"description_tooltip", TRAIT_TEXT},
	{"description_width", TRAIT_CSS},
	{"disabled", TRAIT_QUANTITY},
	{"display", TRAIT_CSS},
	{"ensure_option", TRAIT_QUANTITY},
	{"error", TRAIT_TEXT},
	{"flex", TRAIT_CSS},
	{"flex_flow", TRAIT_CSS},
	{"font_family", TRAIT_CSS},
	{"font_size", TRAIT_CSS},
	{"font_style", TRAIT_CSS},
	{"font_variant", TRAIT_CSS},
	{"font_weight", TRAIT_CSS},
	{"format", TRAIT_MEDIA},
	{"grid_area", TRAIT_CSS},
	{"grid_auto_columns", TRAIT_CSS},
	{"grid_auto_flow", TRAIT_CSS},
	{"grid_auto_rows", TRAIT_CSS},
	{"grid_column", TRAIT_CSS},
	{"grid_gap", TRAIT_CSS},
	{"grid_row", TRAIT_CSS},
	{"grid_template_areas", TRAIT_CSS},
	{"grid_template_columns", TRAIT_CSS},
	{"grid_template_rows", TRAIT_CSS},
	{"handle_color", TRAIT_COLOR},
	{"height", TRAIT_CSS},
	{"icon", TRAIT_ICON},
	{"icons", TRAIT_ICONS},
	{"indent", TRAIT_QUANTITY},
	{"index", TRAIT_QUANTITY},
	{"interval", TRAIT_QUANTITY},
	{"justify_content", TRAIT_WORD},
	{"justify_items", TRAIT_WORD},
	{"layout", TRAIT_LAYOUT},
	{"left", TRAIT_CSS},
	{"loop", TRAIT_QUANTITY},
	{"mapping", TRAIT_TEXT},
	{"margin", TRAIT_CSS},
	{"max", TRAIT_QUANTITY},
	{"max_height", TRAIT_CSS},
	{"max_width", TRAIT_CSS},
	{"metadata", TRAIT_FILES},
	{"min", TRAIT_QUANTITY},
	{"min_height", TRAIT_CSS},
	{"min_width", TRAIT_CSS},
	{"msg_id", TRAIT_MESSAGE},
	{"multiple", TRAIT_QUANTITY},
	{"name", TRAIT_TEXT},
	{"object_fit", TRAIT_WORD},
	{"object_position", TRAIT_CSS},
	{"options", TRAIT_OPTIONS},
	{"order", TRAIT_CSS},
	{"orientation", TRAIT_WORD},
	{"outputs", TRAIT_OUTPUTS},
	{"overflow", TRAIT_CSS},
	{"overflow_x", TRAIT_WORD},
	{"overflow_y", TRAIT_WORD},
	{"padding", TRAIT_CSS},
	{"placeholder", TRAIT_TEXT},
	{"playing", TRAIT_QUANTITY},
	{"pressed", TRAIT_QUANTITY},
	{"readout", TRAIT_TEXT},
	{"readout_format", TRAIT_FORMAT},
	{"repeat", TRAIT_QUANTITY},
	{"right", TRAIT_CSS},
	{"rows", TRAIT_QUANTITY},
	{"selected_index", TRAIT_QUANTITY},
	{"show_repeat", TRAIT_QUANTITY},
	{"source", TRAIT_LINK},
	{"step", TRAIT_QUANTITY},
	{"style", TRAIT_STYLE},
	{"tabbable", TRAIT_QUANTITY},
	{"tag_style", TRAIT_WORD},
	{"target", TRAIT_LINK},
	{"text_color", TRAIT_COLOR},
	{"text_decoration", TRAIT_CSS},
	{"timestamp", TRAIT_QUANTITY},
	{"titles", TRAIT_TEXTS},
	{"tooltip", TRAIT_TEXT},
	{"tooltips", TRAIT_TEXTS},
	{"top", TRAIT_CSS},
	{"visibility", TRAIT_WORD},
	{"width", TRAIT_CSS},
};
/* clang-format on */

unsigned short models_find(const char *module, const char *name)
{
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
		if (strcmp(models[i].name, name) == 0 && strcmp(models[i].module, module) == 0)
			return (unsigned short)(i + 1);
	return 0;
}

const struct model *models_get(unsigned short number)
{
	return number > 0 && number <= sizeof(models) / sizeof(models[0]) ? &models[number - 1]
									  : NULL;
}

static int compare(const void *name, const void *row)
{
	return strcmp(name, ((const struct row *)row)->name);
}

enum trait models_trait(const struct model *model, const char *name)
{
	const struct row *row;

	if (strcmp(name, "value") == 0)
		return model->value;
	row = bsearch(name, rows, sizeof(rows) / sizeof(rows[0]), sizeof(rows[0]), compare);
	if (!row)
		return TRAIT_NONE;
	if (row->trait == TRAIT_MEDIA && model->value != TRAIT_BINARY)
		return TRAIT_FORMAT; /* FloatsInput and IntsInput */
	return row->trait;
}
